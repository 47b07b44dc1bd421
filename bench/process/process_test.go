package process

import (
	"bufio"
	"os"
	"os/exec"
	"testing"
	"time"
)

// A command's name may contain what looks like the end of its field.
func TestParse(t *testing.T) {
	got, err := parse("8698 (a ) R 1 (x) S 8697 8697 5997 0 -1 4194304 88 150 0 0 31 4 123 45 20 0 1 0 3172950 2654208")
	want := status{parent: 8697, children: 168 * tick}
	if err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	if got, err = parse("1 (x) Z 0 8697 5997 0 -1 4194304 88 150 0 0 31 4 0 0"); err != nil || !got.ended {
		t.Errorf("a zombie: %+v, %v", got, err)
	}
	for _, bad := range []string{"", "8698 (sh", "8698 (sh) S 1 2", "8698 (sh) S x 8697 5997 0 -1 4194304 88 150 0 0 31 4 123 45 20"} {
		if _, err := parse(bad); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

func TestPSS(t *testing.T) {
	size, err := pss([]byte("00400000-7fff ---p 00000000 00:00 0   [rollup]\nRss:  2000 kB\nPss:  1500 kB\nPss_Anon: 1 kB\n"))
	if err != nil || size != 1500<<10 {
		t.Errorf("got %d, %v", size, err)
	}
	if _, err := pss([]byte("Rss: 2000 kB\n")); err == nil {
		t.Error("no error without Pss")
	}
}

// A shell starts a second shell that works and ends, and then a process that sleeps. The CPU time of the
// ended shell still counts.
func TestTree(t *testing.T) {
	const work = `i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done`
	shell := exec.Command("sh", "-c", `sh -c '`+work+`'; echo done; sleep 60 & echo started; wait`)
	out, err := shell.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := shell.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		tree, _ := Tree(shell.Process.Pid)
		for _, pid := range tree {
			if p, err := os.FindProcess(pid); err == nil {
				_ = p.Kill()
			}
		}
		_ = shell.Wait()
	})
	lines := bufio.NewScanner(out)
	for lines.Scan() && lines.Text() != "started" {
	}
	tree, err := Tree(shell.Process.Pid)
	if err != nil || len(tree) != 2 || tree[0] != shell.Process.Pid {
		t.Errorf("the tree is %v, %v", tree, err)
	}
	// 300,000 rounds take a hundred times longer than starting a shell, on any machine.
	spent, err := CPU(shell.Process.Pid)
	if err != nil || spent < 50*time.Millisecond || spent > time.Minute {
		t.Errorf("%v of processor time, %v", spent, err)
	}
	size, err := Memory(shell.Process.Pid)
	if err != nil || size < 10<<10 || size > 100<<20 {
		t.Errorf("%d bytes, %v", size, err)
	}
}

// The clock of a process must not be another process's clock: this process works, its child sleeps.
func TestCPUIsTheProcess(t *testing.T) {
	sleeper := exec.Command("sleep", "60")
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = sleeper.Process.Kill()
		_ = sleeper.Wait()
	})
	before, err := CPU(sleeper.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	mine, err := clock(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for now := mine; now < mine+100*time.Millisecond; {
		if now, err = clock(os.Getpid()); err != nil {
			t.Fatal(err)
		}
	}
	after, err := CPU(sleeper.Process.Pid)
	if err != nil || after-before > 50*time.Millisecond {
		t.Errorf("a process that sleeps spent %v, %v", after-before, err)
	}
}

func TestEnded(t *testing.T) {
	command := exec.Command("true")
	if err := command.Run(); err != nil {
		t.Fatal(err)
	}
	if spent, err := CPU(command.Process.Pid); err == nil {
		t.Errorf("a process that ended spent %v", spent)
	}
}

package storetest

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/tallygate/tallygate/issuer/store"
	"github.com/tallygate/tallygate/revocation"
)

// failed begins a line of WriteUntilKilled that is an error and not an id.
const failed = "error "

// WriteUntilKilled is the child process of a test that kills it. It opens a store, stores revocations and
// tokens from many goroutines, and prints the id of each acknowledged write and every error except those that
// wrap tolerated, which may be nil. It never returns.
func WriteUntilKilled(open func() (Store, error), tolerated error) {
	s, err := open()
	if err != nil {
		_, _ = fmt.Fprintln(os.Stdout, failed, err)
		os.Exit(1)
	}
	var mu sync.Mutex
	for worker := range 8 {
		go func() {
			for n := 0; ; n++ {
				id := fmt.Sprintf("%d-%d-%d", os.Getpid(), worker, n)
				err := s.Revoke(store.Revocation{Kind: revocation.Application, Subject: id, IssuedBy: at(1), Until: at(1 << 35), Actor: "a", Reason: id})
				if err == nil {
					err = s.AddToken(sum(id), store.Token{Client: "c", Expires: at(1 << 35), Record: []byte("{}")})
				}
				mu.Lock()
				if err == nil {
					_, _ = fmt.Fprintln(os.Stdout, id)
				} else if !errors.Is(err, tolerated) {
					_, _ = fmt.Fprintln(os.Stdout, failed, err)
				}
				mu.Unlock()
			}
		}()
	}
	select {}
}

// RunUntilKilled runs child, which calls WriteUntilKilled, kills it after the given number of lines, and adds
// the ids of the acknowledged writes to acknowledged. It calls before, which may be nil, just before it kills
// child.
func RunUntilKilled(t *testing.T, child *exec.Cmd, acknowledged map[string]bool, lines int, before func()) {
	t.Helper()
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	printed := bufio.NewScanner(out)
	for n := 0; printed.Scan(); n++ {
		if strings.HasPrefix(printed.Text(), failed) {
			t.Error(printed.Text())
		} else {
			acknowledged[printed.Text()] = true
		}
		if n == lines {
			if before != nil {
				before()
			}
			_ = child.Process.Kill()
		}
	}
	_ = child.Wait()
}

// CheckAcknowledged checks that s has the revocation and the token of each acknowledged write, and an audit record for
// exactly the revocations that it has.
func CheckAcknowledged(t *testing.T, s Store, acknowledged map[string]bool) {
	t.Helper()
	checkAudit(t, s)
	held := revocations(t, s)
	for id := range acknowledged {
		_, token, err := s.Token(sum(id))
		if _, revoked := held[fmt.Sprint(revocation.Application, id)]; !revoked || !token || err != nil {
			t.Fatalf("%s is lost (revoked %t, token %t, %v)", id, revoked, token, err)
		}
	}
}

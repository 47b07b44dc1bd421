// Package deploy_test checks the scripts in this folder.
package deploy_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const (
	unreachable = `echo 'govulncheck: fetching vulnerabilities: no such host'; exit 1`
	clean       = `echo 'No vulnerabilities found.'`
	inModule    = `echo 'Your code is affected by 1 vulnerability from 1 module.'; exit 3`
	inOldGo     = `echo 'Your code is affected by 2 vulnerabilities from the Go standard library.'; exit 3`
)

// The script fails for a finding and for an error, takes the database from the module proxy where
// vuln.go.dev cannot be reached, and never passes over a missing database in silence. govulncheck
// and go are stand-ins, because a test must not depend on the network.
func TestVulncheck(t *testing.T) {
	for _, c := range []struct {
		name             string
		direct, byModule string // the behaviour of govulncheck with each database
		proxy            bool   // whether the module proxy has the database
		release          string // the version of go
		fails            bool
		want             string
	}{
		{name: "clean", direct: clean, release: "go1.99.1", want: "(vuln.go.dev, go1.99.1)"},
		{name: "vulnerable", direct: inModule, release: "go1.99.1", fails: true, want: "1 module"},
		{name: "older Go", direct: inOldGo, release: "go1.20.1", want: "ALL OF THESE ARE IN go1.20.1"},
		{name: "broken", direct: "echo 'no Go files'; exit 1", release: "go1.99.1", fails: true, want: "no Go files"},
		{name: "proxy", direct: unreachable, byModule: clean, proxy: true, release: "go1.99.1", want: "(vulndb, go1.99.1)"},
		{name: "vulnerable, proxy", direct: unreachable, byModule: inModule, proxy: true, release: "go1.99.1", fails: true, want: "1 module"},
		{name: "no database", direct: unreachable, release: "go1.99.1", want: "NOTHING WAS CHECKED"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			database := filepath.Join(dir, "vulndb")
			download := "exit 1"
			if c.proxy {
				if err := os.MkdirAll(filepath.Join(database, "data", "osv"), 0o700); err != nil {
					t.Fatal(err)
				}
				download = `printf '{\n\t"Dir": "` + database + `",\n}\n'`
			}
			write(t, filepath.Join(dir, "go"), "case $1 in env) echo "+c.release+";; mod) "+download+";; esac")
			write(t, filepath.Join(dir, "govulncheck"), "case $1 in -db) "+c.byModule+";; *) "+c.direct+";; esac")
			command := exec.Command("./vulncheck", filepath.Join(dir, "govulncheck"))
			command.Env = append(os.Environ(), "PATH="+dir+string(filepath.ListSeparator)+os.Getenv("PATH"))
			output, err := command.CombinedOutput()
			if (err != nil) != c.fails || !strings.Contains(string(output), c.want) {
				t.Errorf("vulncheck ends with %v and prints %s\nwant failure %t and %q", err, output, c.fails, c.want)
			}
		})
	}
}

func write(t *testing.T, file, script string) {
	t.Helper()
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
}

package main

import (
	"debug/buildinfo"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"testing"
)

// checkLicenses collects the licence texts with the Dockerfile's commands and checks that every
// module in the binary has one. For another platform, the same program collects that platform's.
func checkLicenses(t *testing.T, program, out string) {
	t.Helper()
	runBuild(t, runLine(t, "go build -o /out/tools/licenses"), "../..", out, "linux/"+runtime.GOARCH)
	runBuild(t, licensesLine(t), "../..", out, "linux/"+runtime.GOARCH)
	folder := filepath.Join(out, "licenses")
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	if len(info.Deps) == 0 {
		t.Fatal("the program names no dependency")
	}
	modules := []string{"go", info.Main.Path}
	for _, m := range info.Deps {
		modules = append(modules, m.Path+"@"+m.Version)
	}
	for _, m := range modules {
		if !hasLicense(filepath.Join(folder, filepath.FromSlash(m))) {
			t.Errorf("the image has no licence text of %s", m)
		}
	}
	taken := "github.com/prometheus/client_golang@*/internal/github.com/golang/gddo/LICENSE"
	if found, err := filepath.Glob(filepath.Join(folder, taken)); err != nil || len(found) != 1 {
		t.Errorf("%d texts of %s, %v; code that a module took over has a text of its own", len(found), taken, err)
	}
	runBuild(t, licensesLine(t), "../..", out, "linux/arm64") // by the same program
}

// hasLicense reports whether folder holds a licence text.
func hasLicense(folder string) bool {
	files, _ := filepath.Glob(filepath.Join(folder, "*")) // errs for a malformed pattern alone
	for _, file := range files {
		if !regexp.MustCompile(`(?i)^(licen[cs]e|copying)`).MatchString(filepath.Base(file)) {
			continue
		}
		text, err := os.ReadFile(file)
		if err == nil && regexp.MustCompile(`(?i)permission is hereby granted|redistribution and use|apache license|mozilla public license|public domain`).Match(text) {
			return true
		}
	}
	return false
}

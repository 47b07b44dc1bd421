// Package inject adds the gate as a sidecar to the Kubernetes manifests of an application, and removes
// it again. It edits the text at the places that change, so comments, the order of keys and fields that
// it does not know stay as they are.
package inject

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/tallygate/tallygate/internal/strictyaml"
)

// Options are the settings of Inject.
type Options struct {
	Image         string   // the gate's image
	ConfigMap     string   // has tallygate.yaml; "": the workload's name and "-tallygate"
	TLSSecret     string   // the listener's certificate; "": the workload's name and "-tallygate-tls"
	Mounts        []Mount  // further files, in /etc/tallygate/files
	Port          int      // the port of the gate's listener for partners
	AppPort       int      // the application's port; 0: the only TCP port of the only container that names ports
	AppContainer  string   // the application's container; "": the container with AppPort
	Native        bool     // an init container that keeps running, rather than a container
	LoopbackEnv   []Pair   // variables that bind the application to loopback
	LoopbackArgs  []Pair   // arguments that bind the application to loopback
	NetworkPolicy bool     // add a NetworkPolicy that closes all ports but the gate's
	MetricsFrom   []string // the namespaces from which the admin port can be reached
	Probes        Probes
	Service       bool          // rewrite the target ports of Services that lead to the application
	DrainDelay    time.Duration // drain.delay of the gate's configuration
	DrainTimeout  time.Duration // drain.timeout of the gate's configuration
}

// A Mount is a Secret or ConfigMap that the gate's configuration names files of.
type Mount struct {
	Name, Secret, ConfigMap string // Secret or ConfigMap is empty
}

// A Pair is the name of a variable or argument, and the value that binds the application to loopback.
type Pair struct{ Name, Value string }

// Probes says what happens to probes that reach the application by the pod's address.
type Probes string

const (
	ProbesDefault Probes = ""        // forward with LoopbackEnv or LoopbackArgs, otherwise keep
	ProbesKeep    Probes = "keep"    // leave them as they are
	ProbesForward Probes = "forward" // the gate's admin listener takes them and calls the application on loopback
)

// The gate's ports and names, as in charts/tallygate.
const (
	gateName    = "tallygate"
	DefaultPort = 8443
	adminPort   = 9090
)

// MaxBytes bounds one file: 16 MiB are ten times the largest object that an API server stores.
const MaxBytes = 16 << 20

// A File is a manifest and its name in reports and errors.
type File struct {
	Name string
	Text []byte
}

// A Result has the files after the change, in their order, and a report with a line for each change.
type Result struct {
	Files  []File
	Report []string
}

// Inject adds the gate to every workload in files. It replaces the gate of a workload that already has
// the gate, so a second Inject with the same options changes nothing. With an error there is no
// Result. The error has the type [strictyaml.Faults] and names all faults of all files.
func Inject(files []File, o *Options) (*Result, error) {
	clean := &set{}
	clean.uninject(files)
	without, former := clean.texts()
	s := &set{options: o, faults: clean.faults, guarded: clean.reported()}
	s.read(without, former)
	for _, w := range s.objects {
		s.injectObject(w)
	}
	s.services()
	s.otherPolicies()
	for _, o := range s.objects {
		if len(o.report) == 0 {
			o.say("unchanged")
		}
	}
	result, err := s.result()
	if err != nil {
		return nil, err
	}
	if err := checkUninject(result.Files, without); err != nil {
		return nil, err
	}
	return result, nil
}

// checkUninject returns an error unless [Uninject] turns injected back into without, the same files without the
// gate.
func checkUninject(injected, without []File) error {
	fault := func(f File, message string) error {
		return strictyaml.Faults{{Position: strictyaml.Position{File: f.Name, Line: 1, Column: 1}, Message: message}}
	}
	for _, f := range injected {
		if len(f.Text) > MaxBytes {
			return fault(f, fmt.Sprintf("with the gate the file would have %d bytes, and %d are the most: split it", len(f.Text), MaxBytes))
		}
	}
	again, err := Uninject(injected)
	for i, f := range without {
		if err != nil || !bytes.Equal(again.Files[i].Text, f.Text) {
			return fault(f, "uninject could not give this layout back unchanged: write the workload in block style, one key on each line")
		}
	}
	return nil
}

// Uninject removes from files what [Inject] added and restores what Inject replaced. The error has the
// type [strictyaml.Faults].
func Uninject(files []File) (*Result, error) {
	s := &set{}
	s.uninject(files)
	return s.result()
}

func (s *set) uninject(files []File) {
	s.read(files, make([][]int, len(files)))
	for _, o := range s.objects {
		s.uninjectObject(o)
	}
}

// reported returns the objects for which something was done.
func (s *set) reported() map[objectKey]bool {
	all := map[objectKey]bool{}
	for _, o := range s.objects {
		if len(o.report) > 0 {
			all[o.key()] = true
		}
	}
	return all
}

// A set is the state of one call: the documents of all files, and the objects and faults in them.
type set struct {
	options *Options
	files   []*file
	objects []*object // in the order of the files
	faults  strictyaml.Faults
	guarded map[objectKey]bool // had the gate, which inject has removed to add it anew
}

// read splits and parses all files. former has the lines of positions, see file.
func (s *set) read(files []File, former [][]int) {
	for i, f := range files {
		parsed := &file{name: f.Name, former: former[i]}
		s.files = append(s.files, parsed)
		if len(f.Text) > MaxBytes {
			s.faults = append(s.faults, strictyaml.Fault{
				Position: strictyaml.Position{File: f.Name, Line: 1, Column: 1},
				Message:  fmt.Sprintf("the file has %d bytes, and %d are the most: split it", len(f.Text), MaxBytes),
			})
			continue
		}
		s.parse(parsed, f.Text)
	}
}

// result puts the files together again, or returns the faults.
func (s *set) result() (*Result, error) {
	result := &Result{}
	result.Files, _ = s.texts()
	if len(s.faults) > 0 {
		return nil, s.inOrder()
	}
	for _, o := range s.objects {
		if len(o.report) == 0 {
			continue
		}
		result.Report = append(result.Report, printable(fmt.Sprintf("%s:%d: %s: %s", o.file.name, o.line(o.node), o.id(), o.report[0])))
		for _, line := range o.report[1:] {
			result.Report = append(result.Report, "  "+printable(line))
		}
	}
	return result, nil
}

// texts returns the files after all edits, and for each line the line in the file that was read.
func (s *set) texts() (files []File, former [][]int) {
	for _, f := range s.files {
		text, lines := s.join(f)
		files, former = append(files, File{f.name, text}), append(former, lines)
	}
	return files, former
}

// inOrder returns the faults sorted by position, file by file.
func (s *set) inOrder() strictyaml.Faults {
	var sorted strictyaml.Faults
	for _, f := range s.files {
		var own strictyaml.Faults
		for _, fault := range s.faults {
			if fault.File == f.name {
				own = append(own, fault)
			}
		}
		_ = own.Err() // sorts
		sorted = append(sorted, slices.Compact(own)...)
	}
	return sorted
}

// list returns words as "a, b and c".
func list(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " and " + words[len(words)-1]
}

// printable returns text with its control characters replaced, because they could control a terminal.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, text)
}

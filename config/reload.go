package config

import (
	"reflect"
	"slices"

	"github.com/tallygate/tallygate/internal/strictyaml"
)

// CheckReload returns [Faults] with each setting whose value in next differs from the value in c, and
// which a running process cannot change because it belongs to an open listener or an open state. The
// positions are positions in next.
func (c *Config) CheckReload(next *Config) error {
	k := &checker{config: next}
	k.immutable("listener.address", c.Listener.Address, next.Listener.Address)
	k.immutableACME("listener.certificate", c.Listener.Certificate.ACME, next.Listener.Certificate.ACME)
	k.immutableLimits(&c.Listener.Limits, &next.Listener.Limits)
	k.immutable("admin.address", c.Admin.Address, next.Admin.Address)
	k.immutable("admin.console", c.Admin.Console, next.Admin.Console)
	switch before, after := c.Issuer, next.Issuer; {
	case before != nil && after != nil:
		k.immutable("issuer.issuer", before.Issuer, after.Issuer)
		k.immutable("issuer.address", before.Address, after.Address)
		k.immutable("issuer.mtls_alias.address", before.MTLSAlias.address(), after.MTLSAlias.address())
		k.immutable("issuer.state", before.State, after.State)
		k.immutable("issuer.database", before.Database, after.Database)
		k.immutable("issuer.signing", before.Signing, after.Signing)
	default:
		k.immutable("issuer", before != nil, after != nil)
	}
	k.immutableEvents(c.AuthorizationServers, next.AuthorizationServers)
	return k.faults.Err()
}

// immutableEvents records a fault for each folder of security events that a reload changes. A server does not send
// acknowledged events again, so with another folder the gate would forget revocations.
func (k *checker) immutableEvents(before, after []AuthorizationServer) {
	for i := range after {
		for j := range before {
			now, was := &after[i], &before[j]
			if now.Issuer == was.Issuer && now.SecurityEvents != nil && was.SecurityEvents != nil {
				k.immutable(strictyaml.Index("authorization_servers", i)+".security_events.state", was.SecurityEvents.State, now.SecurityEvents.State)
			}
		}
	}
}

// immutableACME checks all settings of ACME except the settings that can change: the domains and the
// anchors of the directory.
func (k *checker) immutableACME(path string, before, after *ACME) {
	if before == nil || after == nil {
		k.immutable(path, before != nil, after != nil)
		return
	}
	path += ".acme."
	k.immutable(path+"email", before.Email, after.Email)
	k.immutable(path+"directory", before.Directory, after.Directory)
	k.immutable(path+"storage", before.Storage, after.Storage)
	k.immutable(path+"http_address", before.HTTPAddress, after.HTTPAddress)
}

// immutableLimits records a fault for each limit that a reload changes. Only body_bytes and requests
// may change, because they are read for each request.
func (k *checker) immutableLimits(before, after *Limits) {
	const path = "listener.limits."
	k.immutable(path+"header_bytes", before.HeaderBytes, after.HeaderBytes)
	k.immutable(path+"connections", before.Connections, after.Connections)
	k.immutable(path+"connections_per_address", before.ConnectionsPerAddress, after.ConnectionsPerAddress)
	k.immutable(path+"handshake_timeout", before.HandshakeTimeout, after.HandshakeTimeout)
	k.immutable(path+"header_timeout", before.HeaderTimeout, after.HeaderTimeout)
	k.immutable(path+"stall_timeout", before.StallTimeout, after.StallTimeout)
	k.immutable(path+"idle_timeout", before.IdleTimeout, after.IdleTimeout)
}

// immutable records a fault if the setting at path has different values before and after a reload.
func (k *checker) immutable(path string, before, after any) {
	if !reflect.DeepEqual(before, after) {
		k.fault(path, "cannot change while the gate runs; restart the gate, or change the value back")
	}
}

func (a *MTLSAlias) address() Address {
	if a == nil {
		return ""
	}
	return a.Address
}

// Files returns the configuration file of c and every file that c names, sorted. The configuration
// can change when one of these files changes.
func (c *Config) Files() []string {
	var files []string
	if file := c.source.File(); file != "" {
		files = append(files, file)
	}
	c.paths(func(file, _ string) { files = append(files, file) })
	slices.Sort(files)
	return slices.Compact(files)
}

// Secrets returns the files that c names and that contain a secret, sorted.
func (c *Config) Secrets() []string {
	var files []string
	c.paths(func(file, key string) {
		if slices.Contains([]string{"key", "key_file", "secret_file", "token_file", "authorization_file", "password_file", "encryption_keys"}, key) {
			files = append(files, file)
		}
	})
	if c.Issuer != nil {
		for _, f := range c.Issuer.Signing.Files {
			files = append(files, string(f))
		}
	}
	slices.Sort(files)
	return slices.Compact(files)
}

// A NamedFile is a file that a configuration names, with the path of the setting that names the file.
type NamedFile struct {
	Setting string // spelled as in [Fault]
	File    string
}

// NamedFiles returns each setting of c that names a file, in the order of the settings. If several
// settings name the same file, the result has an element for each of the settings.
func (c *Config) NamedFiles() []NamedFile {
	var named []NamedFile
	c.walkPaths(func(file string, setting []step) {
		named = append(named, NamedFile{joinSteps(setting), file})
	})
	return named
}

// paths calls f with every file that c names and the key of its setting.
func (c *Config) paths(f func(file, key string)) {
	c.walkPaths(func(file string, setting []step) { f(file, lastKey(setting)) })
}

// walkPaths calls f with every file that c names and the steps to the setting of the file.
func (c *Config) walkPaths(f func(file string, setting []step)) {
	walk(reflect.ValueOf(c).Elem(), nil, func(file string, setting []step) {
		if key := lastKey(setting); key != "state" && key != "storage" { // the process itself writes into these folders
			f(file, setting)
		}
	})
}

// A step is the key of a setting, or "" and the index of an element of a list.
type step struct {
	key   string
	index int
}

// lastKey returns the last key of setting. For an element of a list it is the key of the list.
func lastKey(setting []step) string {
	for _, s := range slices.Backward(setting) {
		if s.key != "" {
			return s.key
		}
	}
	return ""
}

func joinSteps(setting []step) (path string) {
	for _, s := range setting {
		if s.key != "" {
			path = strictyaml.Key(path, s.key)
		} else {
			path = strictyaml.Index(path, s.index)
		}
	}
	return path
}

// walk calls f with every Path in v and the steps to this Path. setting has the steps to v. f must
// not keep its argument setting, because the next call of f overwrites it.
func walk(v reflect.Value, setting []step, f func(file string, setting []step)) {
	switch v.Kind() { //nolint:exhaustive // other kinds contain no paths
	case reflect.String:
		if v.Type() == reflect.TypeFor[Path]() && v.String() != "" {
			f(v.String(), setting)
		}
	case reflect.Pointer:
		if !v.IsNil() {
			walk(v.Elem(), setting, f)
		}
	case reflect.Slice:
		for i := range v.Len() {
			walk(v.Index(i), append(setting, step{index: i}), f)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			field := v.Type().Field(i)
			switch key := field.Tag.Get("yaml"); {
			case !field.IsExported():
			case key == "": // v is a part of a setting that is written as one text
				walk(v.Field(i), setting, f)
			default:
				walk(v.Field(i), append(setting, step{key: key}), f)
			}
		}
	}
}

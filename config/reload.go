package config

import (
	"reflect"
	"slices"
)

// CheckReload returns what keeps a process that runs with c from going on with next:
// [Faults] with each setting that belongs to an open listener or an open state and that
// is another in next, at its place there.
func (c *Config) CheckReload(next *Config) error {
	k := &checker{config: next}
	k.immutable("listener.address", c.Listener.Address, next.Listener.Address)
	k.immutableACME("listener.certificate", c.Listener.Certificate.ACME, next.Listener.Certificate.ACME)
	k.immutableLimits(&c.Listener.Limits, &next.Listener.Limits)
	k.immutable("admin.address", c.Admin.Address, next.Admin.Address)
	switch before, after := c.Issuer, next.Issuer; {
	case before != nil && after != nil:
		k.immutable("issuer.issuer", before.Issuer, after.Issuer)
		k.immutable("issuer.address", before.Address, after.Address)
		k.immutable("issuer.mtls_alias.address", before.MTLSAlias.address(), after.MTLSAlias.address())
		k.immutable("issuer.state", before.State, after.State)
		k.immutable("issuer.signing", before.Signing, after.Signing)
	default:
		k.immutable("issuer", before != nil, after != nil)
	}
	return k.faults.Err()
}

// immutableACME is fixed for all of ACME but what may come and go: the domains, and what
// speaks for the directory.
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

// immutableLimits is fixed for all limits but body_bytes and requests, which are looked at for
// each request.
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

// immutable records a fault unless before, the value at path, is after.
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

// Files returns the file that c was read from and every file that it names, sorted: what
// a new one may come from.
func (c *Config) Files() []string {
	var files []string
	if file := c.source.File(); file != "" {
		files = append(files, file)
	}
	c.paths(func(file, _ string) { files = append(files, file) })
	slices.Sort(files)
	return slices.Compact(files)
}

// Secrets returns the files that c names and that hold a secret, sorted.
func (c *Config) Secrets() []string {
	var files []string
	c.paths(func(file, key string) {
		if slices.Contains([]string{"key", "key_file", "secret_file", "token_file"}, key) {
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

// paths calls f with every file that c names and the key that it stands under.
func (c *Config) paths(f func(file, key string)) {
	walk(reflect.ValueOf(c).Elem(), "", func(file, key string) {
		if key != "state" && key != "storage" { // folders, and the process's own
			f(file, key)
		}
	})
}

// walk calls f with every Path in v, which stands under key, and the key of each.
func walk(v reflect.Value, key string, f func(file, key string)) {
	switch v.Kind() { //nolint:exhaustive // a path is in none of the other kinds
	case reflect.String:
		if v.Type() == reflect.TypeFor[Path]() && v.String() != "" {
			f(v.String(), key)
		}
	case reflect.Pointer:
		if !v.IsNil() {
			walk(v.Elem(), key, f)
		}
	case reflect.Slice:
		for i := range v.Len() {
			walk(v.Index(i), key, f)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if field := v.Type().Field(i); field.IsExported() {
				walk(v.Field(i), field.Tag.Get("yaml"), f)
			}
		}
	}
}

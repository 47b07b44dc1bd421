package config

import "github.com/tallygate/tallygate/internal/strictyaml"

// operators checks the operators of the issuer. They have a registry of their own, because the same certificate may
// belong to a resource server too.
func (k *checker) operators(list []Operator) {
	taken, named := newRegistry(), make(map[Name]string)
	for i := range list {
		o, path := &list[i], strictyaml.Index("issuer.operators", i)
		k.require(path+".name", o.Name != "")
		unique(k, named, path+".name", "the name", o.Name)
		k.some(path+".trust", len(o.Trust), "there is no default, because the authority of a partner must not certify an operator")
		k.files(path+".trust", o.Trust)
		k.names(path+".certificate", &o.Certificate, taken)
		switch {
		case o.Certificate.HasName() && len(o.Certificate.Thumbprints) > 0:
			k.fault(path+".certificate", "%s and thumbprints exclude each other", andList(o.Certificate.nameKeys()))
		case o.Certificate.MatchesAny() && k.decodedFully(path+".certificate"):
			k.fault(path+".certificate", "a name or thumbprints are required, or every certificate under trust would be this operator's")
		}
		k.some(path+".permissions", len(o.Permissions), "an operator without permissions may do nothing")
		distinct(k, path+".permissions", o.Permissions)
	}
}

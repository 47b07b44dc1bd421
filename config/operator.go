package config

// Operator is a client that may revoke tokens and certificates over mutual TLS. Its certificate alone authenticates it.
type Operator struct {
	Name Name `yaml:"name" schema:"required"` // in the log and in the audit records; unique
	// Trust are PEM files with the anchors of the certificate. There is no default, and no anchor of a partner may be
	// among them, so that the authority of a partner cannot issue the certificate of an operator.
	Trust       []Path                `yaml:"trust" schema:"required,nonempty,elements"`
	Certificate RegisteredCertificate `yaml:"certificate"` // one name, or thumbprints
	Permissions []Permission          `yaml:"permissions" schema:"required,nonempty,elements"`
}

// Permission is what an operator may do over mutual TLS.
type Permission string

// The values of [Permission]. None includes another.
const (
	PermissionRevoke Permission = "revoke" // revoke tokens, applications, partners and certificates
	PermissionRead   Permission = "read"   // list and watch revocations
)

package mtls

import "crypto/x509"

// authorities has the authorities of the configuration by the DER of their subjects.
type authorities map[string][]*x509.Certificate

func newAuthorities(all []*x509.Certificate) authorities {
	bySubject := make(authorities)
	for _, c := range all {
		bySubject[string(c.RawSubject)] = append(bySubject[string(c.RawSubject)], c)
	}
	return bySubject
}

// signedByAnchors returns the certificates that an authority in a has signed, directly or through
// other returned certificates. No chain to an anchor contains a certificate that is not returned.
//
// crypto/x509 searches upwards from the leaf. An untrusted client may send certificates that share a
// name and a key, so that each certificate may have signed each other certificate. crypto/x509 would
// check a hundred signatures before the search ends. signedByAnchors checks each certificate only
// against the authorities with the name of its issuer, and never checks a signature by the key of a
// certificate that it has not verified.
func (a authorities) signedByAnchors(certificates []*x509.Certificate) []*x509.Certificate {
	var signedByAnchors []*x509.Certificate
	left := make([]*x509.Certificate, 0, len(certificates))
	for _, c := range certificates {
		if signedByAny(c, a[string(c.RawIssuer)]) {
			signedByAnchors = append(signedByAnchors, c)
		} else {
			left = append(left, c)
		}
	}
	for i := 0; i < len(signedByAnchors); i++ { // the body appends to the slice
		above := signedByAnchors[i : i+1]
		rest := left[:0]
		for _, c := range left {
			if string(c.RawIssuer) == string(above[0].RawSubject) && signedByAny(c, above) {
				signedByAnchors = append(signedByAnchors, c)
			} else {
				rest = append(rest, c)
			}
		}
		left = rest
	}
	return signedByAnchors
}

// signedByAny reports whether the key of an authority in above signed c. It checks no other
// constraints.
func signedByAny(c *x509.Certificate, above []*x509.Certificate) bool {
	for _, a := range above {
		if a.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil {
			return true
		}
	}
	return false
}

package mtls

import "crypto/x509"

// authorities are those of the configuration, by the DER of their subject.
type authorities map[string][]*x509.Certificate

func newAuthorities(all []*x509.Certificate) authorities {
	bySubject := make(authorities)
	for _, c := range all {
		bySubject[string(c.RawSubject)] = append(bySubject[string(c.RawSubject)], c)
	}
	return bySubject
}

// vouched returns those of the certificates that an authority of a has signed, directly or through
// others of them. No way to an anchor leads through the rest.
//
// crypto/x509 searches from the leaf upwards: a stranger's certificates that share a name and a
// key, each of which may have signed each other one, cost it a hundred signature checks before it
// gives up. Here each certificate is checked against the authorities of its issuer's name alone,
// and a certificate that only a stranger vouches for is never a key to check by.
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
	for i := 0; i < len(signedByAnchors); i++ { // grows meanwhile
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

// signedByAny reports whether one of the authorities has signed c, whatever else it may not do.
func signedByAny(c *x509.Certificate, above []*x509.Certificate) bool {
	for _, a := range above {
		if a.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil {
			return true
		}
	}
	return false
}

package access

import (
	"net/http"
	"regexp"
	"testing"
)

// The table is written by hand, so that a slip in the product's table fails the test.
func TestReasons(t *testing.T) {
	want := []struct {
		reason Reason
		label  string
		status int
		code   string
	}{
		{Undecided, "undecided", 500, ""},
		{Granted, "granted", 0, ""},
		{MalformedRequest, "malformed_request", 400, "invalid_request"},
		{PathNotCanonical, "path_not_canonical", 400, "invalid_request"},
		{Misdirected, "misdirected", 421, ""},
		{UpgradeNotAllowed, "upgrade_not_allowed", 403, ""},
		{BodyNotAllowed, "body_not_allowed", 400, "invalid_request"},
		{NoCertificate, "no_certificate", 401, "invalid_token"},
		{UntrustedCertificate, "untrusted_certificate", 401, "invalid_token"},
		{WrongUsage, "wrong_usage", 401, "invalid_token"},
		{WeakCertificate, "weak_certificate", 401, "invalid_token"},
		{ExpiredCertificate, "expired_certificate", 401, "invalid_token"},
		{RevokedCertificate, "revoked_certificate", 401, "invalid_token"},
		{RevocationUnknown, "revocation_unknown", 503, ""},
		{NoToken, "no_token", 401, ""},
		{MalformedToken, "malformed_token", 401, "invalid_token"},
		{UnsupportedAlgorithm, "unsupported_algorithm", 401, "invalid_token"},
		{WrongType, "wrong_type", 401, "invalid_token"},
		{UnknownKey, "unknown_key", 401, "invalid_token"},
		{BadSignature, "bad_signature", 401, "invalid_token"},
		{UnknownIssuer, "unknown_issuer", 401, "invalid_token"},
		{WrongAudience, "wrong_audience", 401, "invalid_token"},
		{Expired, "expired", 401, "invalid_token"},
		{NotYetValid, "not_yet_valid", 401, "invalid_token"},
		{Inactive, "inactive", 401, "invalid_token"},
		{Revoked, "revoked", 401, "invalid_token"},
		{NotBound, "not_bound", 401, "invalid_token"},
		{MalformedBinding, "malformed_binding", 401, "invalid_token"},
		{WrongScheme, "wrong_scheme", 401, "invalid_token"},
		{BoundToOther, "bound_to_other", 401, "invalid_token"},
		{BoundToPrevious, "bound_to_previous", 401, "invalid_token"},
		{InvalidDPoPProof, "invalid_dpop_proof", 401, "invalid_dpop_proof"},
		{DPoPNonceRequired, "dpop_nonce_required", 401, "use_dpop_nonce"},
		{BoundToOtherKey, "bound_to_other_key", 401, "invalid_token"},
		{ReplayedDPoPProof, "replayed_dpop_proof", 401, "invalid_dpop_proof"},
		{BindingNotAccepted, "binding_not_accepted", 401, "invalid_token"},
		{UnknownClient, "unknown_client", 403, ""},
		{PartnerDisabled, "partner_disabled", 403, ""},
		{CertificateNotRegistered, "certificate_not_registered", 403, ""},
		{APINotAllowed, "api_not_allowed", 403, ""},
		{InsufficientScope, "insufficient_scope", 403, "insufficient_scope"},
		{PolicyDenied, "policy_denied", 403, ""},
		{BodyTooLarge, "body_too_large", 413, ""},
		{RateLimited, "rate_limited", 429, ""},
		{Overloaded, "overloaded", 503, ""},
		{IssuerUnavailable, "issuer_unavailable", 503, ""},
		{RevocationsStale, "revocations_stale", 503, ""},
	}
	all := Reasons()
	if len(all) != len(want) {
		t.Fatalf("Reasons() has %d reasons, want %d", len(all), len(want))
	}
	for i, w := range want {
		r := all[i]
		if r != w.reason || r.String() != w.label || r.Status() != w.status || r.Code() != w.code {
			t.Errorf("reason %d is %s, %d, %q; want %s, %d, %q", i, r, r.Status(), r.Code(), w.label, w.status, w.code)
		}
	}
}

// The stages come in the order of the reasons, and every refusal has a stage.
func TestStages(t *testing.T) {
	at := 0
	stages := Stages()
	for _, r := range Reasons() {
		if (r.Stage() == "") != (r == Granted || r == Undecided) {
			t.Errorf("%s.Stage() = %q, want \"\" for Granted and Undecided alone", r, r.Stage())
		}
		if r == IssuerUnavailable || r == RevocationsStale { // a dependency of the token stage
			if r.Stage() != StageToken {
				t.Errorf("%s.Stage() = %q, want %q", r, r.Stage(), StageToken)
			}
			continue
		}
		for r.Stage() != "" && stages[at] != r.Stage() {
			if at++; at == len(stages) {
				t.Fatalf("%s.Stage() = %q, want no earlier stage", r, r.Stage())
			}
		}
	}
	if at != len(stages)-1 {
		t.Errorf("no reason has stage %s", stages[at+1])
	}
}

func TestReasonTexts(t *testing.T) {
	label := regexp.MustCompile(`^[a-z_]+$`)
	// RFC 6750 section 3, error_description.
	description := regexp.MustCompile(`^[\x20\x21\x23-\x5b\x5d-\x7e]+$`)
	seen := map[string]Reason{}
	for _, r := range Reasons() {
		if !label.MatchString(r.String()) {
			t.Errorf("label %q, want lower-case words", r)
		}
		if other, ok := seen[r.String()]; ok {
			t.Errorf("reasons %d and %d share the label %s", other, r, r)
		}
		seen[r.String()] = r
		if r == Granted {
			continue
		}
		if http.StatusText(r.Status()) == "" || r.Status() < 400 {
			t.Errorf("%s.Status() = %d, want an error status", r, r.Status())
		}
		if !description.MatchString(r.Description()) {
			t.Errorf("%s.Description() = %q, want a sentence of RFC 6750 characters", r, r.Description())
		}
	}
}

func TestZeroDenies(t *testing.T) {
	var d Decision
	if d.Reason == Granted || d.Reason.Status() != http.StatusInternalServerError {
		t.Errorf("the zero Decision has reason %s and status %d, want a refusal with 500", d.Reason, d.Reason.Status())
	}
	var nobody Thumbprint
	if nobody.Matches(nobody) {
		t.Error("Matches of the zero Thumbprint with itself = true, want false")
	}
	var c *Certificate
	if c.ChainsTo([]AnchorKey{{}}) || (&Certificate{}).ChainsTo(nil) || (&Certificate{}).ChainsTo([]AnchorKey{{}}) {
		t.Error("ChainsTo without anchors = true, want false")
	}
}

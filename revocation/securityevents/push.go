package securityevents

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"slices"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/internal/authserver"
)

// maxVerifying bounds the pushed tokens of a server that are verified and stored at the same time.
const maxVerifying = 16

// Path returns the path of the endpoint to which the server pushes, or "" without pushes.
func (r *Receiver) Path() string {
	if r.settings.Push == nil {
		return ""
	}
	return r.settings.Push.Path
}

// ServeHTTP is the endpoint to which the server pushes its tokens, RFC 8935 section 2. It answers 202 after the
// revocations of the token are durable, 400 with an error code if the server or the token is refused, and 503 if
// the server must send the token again. A token that was sent before is accepted again, because a revocation can be
// stored any number of times.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	if request.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	select {
	case r.verifying <- struct{}{}:
		defer func() { <-r.verifying }()
	default:
		unavailable(w)
		return
	}
	raw, err := r.read(w, request)
	if f, refused := isFault(err); refused {
		r.metrics.count(invalid)
		r.logRefusal(request.Context(), f)
		refuse(w, f)
		return
	}
	verdicts, err := r.receive(request.Context(), []string{raw})
	if err != nil {
		if request.Context().Err() == nil {
			r.unstored.add(raw)
		}
		if n := r.refusals.Add("not accepted", r.now()); n > 0 {
			r.log.WarnContext(request.Context(), "security event not accepted", "issuer", r.server, "count", n, "error", err)
		}
		unavailable(w)
		return
	}
	r.unstored.remove(raw, verdicts[0].stored)
	if f := verdicts[0].fault; f != nil {
		refuse(w, f)
		return
	}
	w.WriteHeader(http.StatusAccepted)
}

// read authenticates the server and returns the token in the body of its request. Every error is a fault.
func (r *Receiver) read(w http.ResponseWriter, request *http.Request) (string, error) {
	if !r.authenticates(request) {
		return "", &fault{authenticationFailed, "The Authorization header or the client certificate does not match the configuration."}
	}
	if t, _, err := mime.ParseMediaType(request.Header.Get("Content-Type")); err != nil || t != "application/secevent+jwt" {
		return "", &fault{invalidRequest, "The content type is not application/secevent+jwt."}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, request.Body, maxToken))
	if err != nil {
		return "", &fault{invalidRequest, "The body is too large or incomplete."}
	}
	return string(body), nil
}

// authenticates reports whether request has every configured credential of the server. A file that cannot be read
// matches nothing.
func (r *Receiver) authenticates(request *http.Request) bool {
	push := r.settings.Push
	if push.AuthorizationFile == "" && len(push.Thumbprints) == 0 {
		return false
	}
	if push.AuthorizationFile != "" {
		want, err := authserver.ReadSecret(push.AuthorizationFile)
		got := request.Header["Authorization"]
		if err != nil || len(got) != 1 {
			return false
		}
		// The sums have the same length, so that the time of the comparison does not depend on the lengths.
		w, g := sha256.Sum256([]byte(want)), sha256.Sum256([]byte(got[0]))
		if subtle.ConstantTimeCompare(w[:], g[:]) != 1 {
			return false
		}
	}
	return len(push.Thumbprints) == 0 || r.showsCertificate(request)
}

// showsCertificate reports whether the connection of request has a configured client certificate that is valid
// now.
func (r *Receiver) showsCertificate(request *http.Request) bool {
	if request.TLS == nil || len(request.TLS.PeerCertificates) == 0 {
		return false
	}
	leaf, now := request.TLS.PeerCertificates[0], r.now()
	thumbprint := access.Thumbprint(sha256.Sum256(leaf.Raw))
	return slices.Contains(r.settings.Push.Thumbprints, thumbprint) && !now.Before(leaf.NotBefore) && !now.After(leaf.NotAfter)
}

// refuse writes an error message, RFC 8935 section 2.3.
func refuse(w http.ResponseWriter, f *fault) {
	header := w.Header()
	header.Set("Content-Type", "application/json")
	header.Set("Content-Language", "en")
	header.Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusBadRequest)
	_ = json.NewEncoder(w).Encode(pollError{f.code, f.description})
}

// unavailable tells the server to send the token again.
func unavailable(w http.ResponseWriter) {
	w.Header().Set("Retry-After", "5")
	w.WriteHeader(http.StatusServiceUnavailable)
}

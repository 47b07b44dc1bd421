package gate

import (
	"io"
	"net/http"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/internal/http1"
	"github.com/tallygate/tallygate/internal/logsample"
)

// malformedAt returns the handler that answers, logs and counts malformed requests at the listener with
// this name. At the partners' listener the proxy does all three, as for all other refusals.
func (g *Gate) malformedAt(name string) func(w http.ResponseWriter, r *http.Request, fault http1.Error) {
	if name == PartnersListener {
		return func(w http.ResponseWriter, r *http.Request, fault http1.Error) {
			g.current.Load().Proxy.RefuseMalformed(w, r, fault)
		}
	}
	var told logsample.Samplers // samples the log lines by fault
	return func(w http.ResponseWriter, r *http.Request, fault http1.Error) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		status := fault.Status()
		w.WriteHeader(status)
		_, _ = io.WriteString(w, `{"error":"invalid_request","error_description":"The request is malformed."}`+"\n")
		if n := told.Add(fault.Error(), time.Now()); n > 0 {
			g.log.WarnContext(r.Context(), "malformed request", "listener", name, "reason", access.MalformedRequest.String(), "status", status,
				"remote", r.RemoteAddr, "error", fault.Error(), "count", n)
		}
	}
}

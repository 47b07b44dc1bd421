package issuer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/issuer/keyring"
	"github.com/tallygate/tallygate/issuer/store"
)

// An Order is what an operator asks of the issuer. Exactly one member is set.
type Order struct {
	Token       string `json:"token,omitempty"`       // revoke this one
	Application string `json:"application,omitempty"` // revoke what it has been issued so far
	Partner     string `json:"partner,omitempty"`     // revoke what its applications have been issued so far
	Thumbprint  string `json:"thumbprint,omitempty"`  // revoke the certificate, and what is bound to it, for ever
	RotateKeys  bool   `json:"rotate_keys,omitempty"` // sign with the next key from now on
	ListKeys    bool   `json:"list_keys,omitempty"`

	// What explains a request at the gate asks; nothing is changed.
	KeySet  bool              `json:"key_set,omitempty"` // publish what verifies tokens
	Resolve string            `json:"resolve,omitempty"` // tell what this token says
	Judge   *access.Unchecked `json:"judge,omitempty"`   // tell whether this one has been revoked
}

// A Report is what an order came to.
type Report struct {
	Done string           `json:"done,omitempty"` // in words
	Keys []keyring.Status `json:"keys,omitempty"`

	KeySet  json.RawMessage   `json:"key_set,omitempty"` // RFC 7517 section 5
	Says    *access.Unchecked `json:"says,omitempty"`    // nil: the token is not active
	Revoked bool              `json:"revoked,omitempty"`
}

// maxOrder bounds an order: the longest token, 16 KiB, and room for the rest.
const maxOrder = 20 << 10

// ServeOperator carries out the order in the body of a POST request. Whoever can send
// one is trusted: it belongs on a socket that only the operator can open.
func (i *Issuer) ServeOperator(w http.ResponseWriter, r *http.Request) {
	var order Order
	content, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxOrder))
	if err == nil {
		err = json.Unmarshal(content, &order)
	}
	if err != nil {
		http.Error(w, "not an order", http.StatusBadRequest)
		return
	}
	report, err := i.Do(order)
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	writeJSON(w, http.StatusOK, report)
}

// Do carries out order. When it returns nil, what it did is durable.
func (i *Issuer) Do(order Order) (Report, error) {
	report, err := i.carryOut(order)
	if err != nil {
		i.log.Warn("operator's order", "granted", false, "err", access.Truncate(err.Error()))
		return Report{}, err
	}
	if report.Done != "" { // not merely asked
		i.log.Info("operator's order", "granted", true, "done", report.Done)
	}
	return report, nil
}

var errOrder = errors.New("exactly one thing can be asked for at a time")

func (i *Issuer) carryOut(order Order) (Report, error) {
	switch order {
	case Order{}:
		return Report{}, errOrder
	case Order{Token: order.Token}:
		return i.revokeText(order.Token)
	case Order{Application: order.Application}:
		if _, known := i.owners[order.Application]; !known {
			return Report{}, fmt.Errorf("there is no application %q", access.Truncate(order.Application))
		}
		return i.revokeAll(store.RevokedApplication, order.Application, "every token of application "+order.Application)
	case Order{Partner: order.Partner}:
		if !i.partners[order.Partner] {
			return Report{}, fmt.Errorf("there is no partner %q", access.Truncate(order.Partner))
		}
		return i.revokePartner(order.Partner)
	case Order{Thumbprint: order.Thumbprint}:
		return i.revokeCertificate(order.Thumbprint)
	case Order{RotateKeys: true}:
		if err := i.keys.Rotate(); err != nil {
			return Report{}, fmt.Errorf("rotating the signing keys: %w", err)
		}
		return Report{Done: "the next key signs from now on", Keys: i.keys.Keys()}, nil
	case Order{ListKeys: true}:
		return Report{Keys: i.keys.Keys()}, nil
	case Order{KeySet: true}:
		set, _ := i.keys.Set()
		return Report{KeySet: set}, nil
	case Order{Resolve: order.Resolve}:
		says, active, err := i.Resolve(order.Resolve)
		if err != nil || !active {
			return Report{}, err
		}
		return Report{Says: &says}, nil
	case Order{Judge: order.Judge}:
		return Report{Revoked: i.Revoked(*order.Judge)}, nil
	}
	return Report{}, errOrder
}

// revokeText revokes one token, whoever's it is.
func (i *Issuer) revokeText(raw string) (Report, error) {
	token, err := i.own(raw)
	switch {
	case err != nil:
		return Report{}, err
	case token == nil:
		return Report{Done: "nothing: the token is not one of this issuer, or has expired"}, nil
	}
	if err := i.revokeToken(token, ""); err != nil {
		return Report{}, err
	}
	return Report{Done: fmt.Sprintf("revoked a token of application %s, jti_sha256 %s", token.ClientID, logged(token.ID))}, nil
}

// revokePartner revokes what a partner's applications have been issued. It names each of
// them too: one that goes to another partner, or whose partner is renamed, takes no
// revoked token along.
func (i *Issuer) revokePartner(name string) (Report, error) {
	for application, owner := range i.owners {
		if owner != name {
			continue
		}
		if _, err := i.revokeAll(store.RevokedApplication, application, application); err != nil {
			return Report{}, err
		}
	}
	return i.revokeAll(store.RevokedPartner, name, "every token of partner "+name)
}

// revokeAll revokes what subject has been issued up to now. Times in tokens are whole
// seconds: one that is issued later within this second is revoked too, and so is one that
// was issued before the clock was set back.
func (i *Issuer) revokeAll(kind store.Kind, subject, what string) (Report, error) {
	now := i.now()
	if last := time.Unix(i.issued.Load(), 0); last.After(now) {
		now = last
	}
	err := i.revoked.add(store.Revocation{
		Kind: kind, Subject: subject, IssuedBy: now, Until: now.Add(longestLifetime + afterlife),
	})
	if err != nil {
		return Report{}, err
	}
	return Report{Done: fmt.Sprintf("revoked %s that was issued until %s", what, now.UTC().Format(time.RFC3339))}, nil
}

func (i *Issuer) revokeCertificate(text string) (Report, error) {
	thumbprint, err := access.ParseThumbprint(text)
	if err != nil {
		return Report{}, err
	}
	if err := i.revoked.add(store.Revocation{Kind: store.RevokedCertificate, Subject: thumbprint.String()}); err != nil {
		return Report{}, err
	}
	return Report{Done: fmt.Sprintf("revoked the certificate %s and every token bound to it", thumbprint)}, nil
}

package gate

import (
	"errors"
	"net"
	"os/user"
	"strconv"

	"github.com/tallygate/tallygate/issuer"
)

// A peerListener accepts connections whose remote address is the actor at the other end, for the audit records of the
// issuer. Connections to a Unix socket have no other address.
type peerListener struct{ *net.UnixListener }

func (l peerListener) Accept() (net.Conn, error) {
	conn, err := l.AcceptUnix()
	if err != nil {
		return nil, err
	}
	uid, err := peerOf(conn)
	if err != nil { // without its user, a request could not be audited
		return nil, &temporaryError{errors.Join(err, conn.Close())}
	}
	return peerConn{conn, actorAddr(issuer.UserActor(UserName(uid)))}, nil
}

// A temporaryError is an error of one connection, after which net/http continues to accept connections.
type temporaryError struct{ error }

func (e *temporaryError) Temporary() bool { return true }
func (e *temporaryError) Timeout() bool   { return false }
func (e *temporaryError) Unwrap() error   { return e.error }

type peerConn struct {
	net.Conn
	remote actorAddr
}

func (c peerConn) RemoteAddr() net.Addr { return c.remote }

type actorAddr string

func (actorAddr) Network() string  { return "unix" }
func (a actorAddr) String() string { return string(a) }

// UserName returns the name of the user with this id, or the id if the user has no name.
func UserName(uid int) string {
	text := strconv.Itoa(uid)
	if found, err := user.LookupId(text); err == nil {
		return found.Username
	}
	return text
}

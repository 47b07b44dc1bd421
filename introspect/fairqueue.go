package introspect

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/tallygate/tallygate/access"
)

// errNoPermit marks a request that was not sent because too many other requests were under way.
var errNoPermit = errors.New("no permit for an introspection request")

// maxUsersPerPermit bounds the requests that hold or await a permit, for each permit. The default of
// 64 permits allows 64 × 16 = 1,024 requests. A request takes at most 25 KiB: a token of 16 KiB and a
// goroutine.
const maxUsersPerPermit = 16

// A fairQueue bounds the concurrent requests to a server, so that no client can use up all permits
// with made-up tokens. One certificate gets at most a quarter of the permits. All certificates of one
// authority together get at most half, because an authority can issue any number of certificates.
// Every client can make certificates without an authority, so all such certificates together are
// limited like the certificates of one authority.
type fairQueue struct {
	mu           sync.Mutex
	all          *bucket
	authorities  map[access.AnchorKey]*bucket
	certificates map[access.Thumbprint]*bucket
}

// A bucket has a part of the permits.
type bucket struct {
	permits chan struct{} // holds one value for each permit in use
	users   int           // requests that hold or await a permit; a bucket without users is removed
}

func newBucket(permits int) *bucket { return &bucket{permits: make(chan struct{}, max(1, permits))} }

func (s *bucket) full() bool { return s.users >= maxUsersPerPermit*cap(s.permits) }

func newFairQueue(concurrency int) *fairQueue {
	return &fairQueue{
		all: newBucket(concurrency), authorities: make(map[access.AnchorKey]*bucket),
		certificates: make(map[access.Thumbprint]*bucket),
	}
}

// tryAcquire takes a free permit that no certificate is charged for. It returns false if no permit is
// free.
func (q *fairQueue) tryAcquire() bool {
	select {
	case q.all.permits <- struct{}{}:
		return true
	default:
		return false
	}
}

// release returns a permit that tryAcquire took.
func (q *fairQueue) release() { <-q.all.permits }

// acquire waits for a permit for cert until ctx ends. If too many requests already wait, it returns
// an error at once. The caller must call release when err is nil; with an error, release is nil.
func (q *fairQueue) acquire(ctx context.Context, cert *access.Certificate) (release func(), err error) {
	path, err := q.enter(cert)
	if err != nil {
		return nil, err
	}
	for i, s := range path {
		select {
		case s.permits <- struct{}{}:
		case <-ctx.Done():
			q.exit(cert, path, i)
			return nil, fmt.Errorf("%w in time: %w", errNoPermit, ctx.Err())
		}
	}
	return func() { q.exit(cert, path, len(path)) }, nil
}

// A path has the buckets that a permit is taken from, in this order. The certificate's bucket is
// first, so that requests of a certificate without a free permit delay no other certificate.
type path [3]*bucket

// enter adds a user to each bucket of cert.
func (q *fairQueue) enter(cert *access.Certificate) (path, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	own, authority := q.certificates[cert.Thumbprint], q.authorities[authorityOf(cert)]
	if own == nil {
		own = newBucket(cap(q.all.permits) / 4)
	}
	if authority == nil {
		authority = newBucket(cap(q.all.permits) / 2)
	}
	p := path{own, authority, q.all}
	for _, s := range p {
		if s.full() {
			return path{}, fmt.Errorf("%w: %d requests hold or await a permit", errNoPermit, s.users)
		}
	}
	q.certificates[cert.Thumbprint], q.authorities[authorityOf(cert)] = own, authority
	for _, s := range p {
		s.users++
	}
	return p, nil
}

// exit undoes enter: it removes a user from each bucket of p. It also releases the permits that the user
// holds, which are from the first buckets of p; held is their number.
func (q *fairQueue) exit(cert *access.Certificate, p path, held int) {
	for _, s := range p[:held] {
		<-s.permits
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, s := range p {
		s.users--
	}
	if p[0].users == 0 {
		delete(q.certificates, cert.Thumbprint)
	}
	if p[1].users == 0 {
		delete(q.authorities, authorityOf(cert))
	}
}

// authorityOf returns the smallest of cert's anchors, which represents all of its anchors. It returns
// the zero key for a cert without an anchor. A client cannot choose the result, because the anchors
// are configured.
func authorityOf(cert *access.Certificate) (least access.AnchorKey) {
	for i, a := range cert.Anchors {
		if i == 0 || string(a[:]) < string(least[:]) {
			least = a
		}
	}
	return least
}

// ownerOfInactive returns the cache owner of inactive tokens that came with cert: its authority,
// because the partner of an inactive token is unknown.
func ownerOfInactive(cert *access.Certificate) string {
	authority := authorityOf(cert)
	return string(authority[:])
}

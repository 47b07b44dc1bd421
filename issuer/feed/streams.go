package feed

// streams are the open streams, by the client_id of the subscriber. Gates may share a client_id, so no bound for one
// client fits every fleet. When there is no more room, a client that has more streams than the subscriber makes room: a
// compromised subscriber must not keep revocations from other gates.
type streams struct {
	max      int
	byClient map[string]map[*stream]struct{}
	open     int // with the evicted streams that have not ended yet
	evicted  int // the evicted streams that have not ended yet
}

// mostEvicted says which part of max may be evicted and still open: an evicted stream may block for WriteTimeout in a write.
const mostEvicted = 8

func newStreams(limit int) streams {
	return streams{max: limit, byClient: make(map[string]map[*stream]struct{})}
}

// add adds s, and reports whether there was room.
func (all *streams) add(s *stream) bool {
	own := all.byClient[s.ClientID]
	if all.open-all.evicted >= all.max && !all.evict(len(own)) {
		return false
	}
	if own == nil {
		own = make(map[*stream]struct{})
		all.byClient[s.ClientID] = own
	}
	own[s] = struct{}{}
	all.open++
	return true
}

// evict ends a stream of the client with the most streams, if it has at least two more than n. With a smaller difference the
// two clients would evict each other in turn.
func (all *streams) evict(n int) bool {
	if all.evicted >= max(1, all.max/mostEvicted) {
		return false
	}
	var most map[*stream]struct{}
	for _, own := range all.byClient {
		if len(own) > len(most) {
			most = own
		}
	}
	if len(most) < n+2 {
		return false
	}
	for s := range most {
		all.remove(s)
		all.open, all.evicted = all.open+1, all.evicted+1 // until it has ended
		close(s.evicted)
		break
	}
	return true
}

// end removes s, which has ended.
func (all *streams) end(s *stream) {
	select {
	case <-s.evicted:
		all.open, all.evicted = all.open-1, all.evicted-1
	default:
		all.remove(s)
	}
}

func (all *streams) remove(s *stream) {
	own := all.byClient[s.ClientID]
	if delete(own, s); len(own) == 0 {
		delete(all.byClient, s.ClientID)
	}
	all.open--
}

// enter returns nil if s may begin. It must then end with leave.
func (f *Feed) enter(s *stream) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	select {
	case <-f.ended:
		return ErrEnded
	default:
	}
	if !f.streams.add(s) {
		f.metrics.dropped.WithLabelValues(byLimit).Inc()
		return ErrFull
	}
	return nil
}

func (f *Feed) leave(s *stream) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.streams.end(s)
}

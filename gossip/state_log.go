package gossip

import (
	"slices"
	"sync"

	"loco/gossip/exchange"
)

// resultLog holds the encoded results of the last rounds, so that a joiner whose state is
// some rounds old can replay them: the same bytes through the same outer step give the
// same bits.
//
// Invariant: the rounds are consecutive, at most roundsMax of at most bytesMax in all.
type resultLog struct {
	roundsMax int
	bytesMax  int64

	mu      sync.Mutex
	entries []*logged
	bytes   int64
}

type logged struct {
	exchange.Result
	once   sync.Once
	object *object // made when it is first asked for, without the lock
}

// add files a result. Those of the round and later ones are of another lineage, and go;
// so do all when a round is missing between.
func (l *resultLog) add(r exchange.Result) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut(slices.IndexFunc(l.entries, func(e *logged) bool { return e.Round >= r.Round }))
	if n := len(l.entries); n > 0 && l.entries[n-1].Round+1 != r.Round {
		l.cut(0)
	}
	if l.roundsMax == 0 || int64(len(r.Bytes)) > l.bytesMax {
		l.cut(0)
		return
	}
	l.entries = append(l.entries, &logged{Result: r})
	l.bytes += int64(len(r.Bytes))
	for len(l.entries) > l.roundsMax || l.bytes > l.bytesMax {
		l.bytes -= int64(len(l.entries[0].Bytes))
		l.entries[0] = nil
		l.entries = l.entries[1:]
	}
}

// cut drops the entries from i on.
func (l *resultLog) cut(i int) {
	if i < 0 {
		return
	}
	for _, e := range l.entries[i:] {
		l.bytes -= int64(len(e.Bytes))
	}
	clear(l.entries[i:])
	l.entries = l.entries[:i]
}

// reset replaces everything: the worker took over another state.
func (l *resultLog) reset(results []exchange.Result) {
	l.mu.Lock()
	l.cut(0)
	l.mu.Unlock()
	for _, r := range results {
		l.add(r)
	}
}

// holds says whether the bytes of a round are here.
func (l *resultLog) holds(round uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.entries, func(e *logged) bool { return e.Round == round })
}

// oldest returns the first round from which on everything up to head can be replayed: the
// results are steps of the head's own lineage, not of one that was given up or not taken.
func (l *resultLog) oldest(head exchange.Head) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	oldest := head.Round
	for i := slices.IndexFunc(l.entries, func(e *logged) bool { return e.Round+1 == head.Round }); i >= 0; i-- {
		e := l.entries[i]
		if !slices.Contains(head.Past, exchange.Mark{Round: e.Round, Digest: e.Base}) {
			break
		}
		oldest = e.Round
	}
	return oldest
}

// take returns the object of a round's result, or nil.
func (l *resultLog) take(round uint64) *object {
	l.mu.Lock()
	i := slices.IndexFunc(l.entries, func(e *logged) bool { return e.Round == round })
	if i < 0 {
		l.mu.Unlock()
		return nil
	}
	e := l.entries[i]
	l.mu.Unlock()
	e.once.Do(func() {
		o := describeResult(e.Result)
		l.mu.Lock()
		e.object = o
		l.mu.Unlock()
	})
	return e.object
}

// find returns the object with the ID, or nil.
func (l *resultLog) find(id [32]byte) *object {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.entries {
		if e.object != nil && e.object.id == id {
			return e.object
		}
	}
	return nil
}

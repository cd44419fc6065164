// Package events is what a simulation in virtual time has yet to do: the scheduler of gossip/protosim and
// of mesh/swim's tests.
package events

import "time"

// Event is something that happens at a time after the beginning.
type Event struct {
	At  time.Duration
	Do  func()
	seq uint64
}

// Queue holds events, the next one first; of two at one time the one that was pushed first. It is
// container/heap without an allocation for each event. The zero value is empty.
type Queue struct {
	heap []Event
	seq  uint64
}

func (e Event) before(o Event) bool { return e.At < o.At || e.At == o.At && e.seq < o.seq }

// Len is how many events are left.
func (q *Queue) Len() int { return len(q.heap) }

// Push adds an event.
func (q *Queue) Push(at time.Duration, do func()) {
	q.seq++
	q.heap = append(q.heap, Event{at, do, q.seq})
	h := q.heap
	for i := len(h) - 1; i > 0; {
		up := (i - 1) / 2
		if !h[i].before(h[up]) {
			return
		}
		h[i], h[up] = h[up], h[i]
		i = up
	}
}

// Pop takes the next event; there must be one.
func (q *Queue) Pop() Event {
	h := q.heap
	e, last := h[0], len(h)-1
	h[0], h[last] = h[last], Event{}
	h = h[:last]
	for i := 0; ; {
		least := i
		for c := 2*i + 1; c <= 2*i+2 && c < last; c++ {
			if h[c].before(h[least]) {
				least = c
			}
		}
		if least == i {
			break
		}
		h[i], h[least] = h[least], h[i]
		i = least
	}
	q.heap = h
	return e
}

package protosim

import "slices"

// mark is a state that a worker was in, and the tokens in it that are its own.
type mark struct {
	round  uint64
	id     [32]byte
	tokens float64
}

// book is what a worker knows of its own past, as the trainer does: with it it counts what it
// gives up when it takes over another's state. The checker counts by the states themselves.
type book struct {
	past   []mark // oldest first, the present state last
	given  float64
	theirs []mark // of the worker that sent a state last
}

// open begins the book with a state.
func (b *book) open(s *state) { b.past = []mark{{s.round, s.id, b.given}} }

// note adds the state that follows, in which tokens are this worker's.
func (b *book) note(s *state, tokens float64) {
	b.given += tokens
	b.past = append(slices.Clip(b.past), mark{s.round, s.id, b.given})
}

// fork is the newest state that both this worker and the owner of a past were in, or the
// oldest that this one remembers.
func (b *book) fork(theirs []mark) mark {
	for _, m := range slices.Backward(b.past) {
		if slices.ContainsFunc(theirs, func(o mark) bool { return o.id == m.id }) {
			return m
		}
	}
	return b.past[0]
}

// follow goes on with another's past from the fork on; of a past that has nothing in common with
// its own it remembers no more.
func (b *book) follow(fork mark, s *state, theirs []mark) {
	b.given = fork.tokens
	common := slices.ContainsFunc(theirs, func(m mark) bool { return m.id == fork.id })
	b.past = slices.DeleteFunc(slices.Clone(b.past), func(m mark) bool { return !common || m.round > fork.round })
	for _, m := range theirs {
		if !common || m.round > fork.round {
			b.past = append(b.past, mark{m.round, m.id, b.given})
		}
	}
	if len(b.past) == 0 || b.past[len(b.past)-1].id != s.id {
		b.open(s)
	}
}

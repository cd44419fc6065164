package clustertest

import (
	"maps"
	"slices"

	"loco/gossip/exchange"
	"loco/trainer"
	"loco/worker"
)

// ledger is what the checker knows of the states that the workers went through. It comes from
// results and their contributions alone, not from the trainers' counts.
type ledger struct {
	parent map[[32]byte][32]byte // the state that each state's round started from
	counts map[uint64][][32]byte // the states in whose rounds each inner step was counted
	steps  uint64                // inner steps so far, of all processes
}

// work is what became of a worker's inner steps, as its disk keeps it.
type work struct {
	state   [32]byte            // that it is in
	brought map[[32]byte]uint64 // its tokens in the round that led to each of its states
	pending []uint64            // its inner steps since, by their number
}

func newLedger() ledger {
	return ledger{parent: map[[32]byte][32]byte{}, counts: map[uint64][][32]byte{}}
}

func (w work) clone() work {
	return work{w.state, maps.Clone(w.brought), slices.Clone(w.pending)}
}

// ancestors are the states on the way to one, itself included.
func (l *ledger) ancestors(state [32]byte) map[[32]byte]bool {
	all := map[[32]byte]bool{state: true}
	for up, ok := l.parent[state]; ok; up, ok = l.parent[up] {
		all[up] = true
	}
	return all
}

// since says how far a worker is from the newest state on its way that led to another, too.
// known is false where the checker did not see how it came to its own.
func (l *ledger) since(w *work, other [32]byte) (rounds, tokens uint64, known bool) {
	common := l.ancestors(other)
	at := w.state
	for ; !common[at]; rounds++ {
		tokens += w.brought[at]
		delete(w.brought, at) // what is given up counts for nothing if it comes back to it
		up, ok := l.parent[at]
		if !ok {
			return 0, 0, false
		}
		at = up
	}
	return rounds, tokens, true
}

// trains takes in an inner step of a process.
func (c *checker) trains(p *process) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ledger.steps++
	if l := c.last[p]; l != nil {
		l.pending = append(l.pending, c.ledger.steps)
	}
}

// saves returns what goes to the disk with a snapshot.
func (c *checker) saves(p *process, s *trainer.Snapshot) work {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.last[p]
	if l == nil {
		return work{}
	}
	if want := uint64(len(l.pending)) * stepTokens; s.RoundTokens != want {
		c.failed("%s saves %d tokens as not yet given, want %d", p.name(), s.RoundTokens, want)
	}
	return l.work.clone()
}

// counted takes in that the steps of contributions led to a state, each for the first time on
// the way there. c.mu is held.
func (c *checker) counted(p *process, state, from [32]byte, picked []contribution) {
	if _, seen := c.ledger.parent[state]; seen || state == from {
		return
	}
	c.ledger.parent[state] = from
	var before map[[32]byte]bool
	for _, g := range picked {
		for _, step := range g.steps {
			in := c.ledger.counts[step]
			if len(in) > 0 && before == nil {
				before = c.ledger.ancestors(from)
			}
			if slices.ContainsFunc(in, func(s [32]byte) bool { return before[s] }) {
				c.failed("%s completes a round in which steps count that an earlier one has", p.name())
			}
			c.ledger.counts[step] = append(in, state)
		}
	}
}

// ofFormer says that what a mean has of a worker may be what a process before this one brought:
// that is so in the rounds that such a process brought something to. The steps of this one are not
// in it then, but for those of a checkpoint, which the trainer cannot tell and counts as lost too.
func (l *progress) ofFormer(e *trainer.RoundEvent) bool { return e.Round <= l.former }

// credits checks what the trainer says became of the steps at hand when a round is complete.
// c.mu is held.
func (c *checker) credits(p *process, l *progress, e *trainer.RoundEvent) {
	tokens := uint64(len(l.pending)) * stepTokens
	from := l.state
	l.state = p.head()
	if c.w.row().Equal {
		c.counted(p, l.state, from, l.picked)
	}
	lost, carried := uint64(0), uint64(0)
	switch {
	case e.LostTokens > 0 && l.ofFormer(e):
		lost = tokens
	case slices.Contains(e.Members, p.index):
		if c.w.row().Equal {
			l.brought[l.state] = tokens
		}
	case e.CarriedTokens > 0:
		carried = tokens
	case c.w.row().Main().Part == exchange.Slow: // the steps are in its own state in any case
	default:
		lost = tokens
	}
	if e.LostTokens != lost || e.CarriedTokens != carried {
		c.failed("%s says that %d tokens are lost and %d carried in round %d, want %d and %d", p.name(), e.LostTokens, e.CarriedTokens, e.Round, lost, carried)
	}
	if carried == 0 {
		l.pending = nil
	} else {
		c.tally.carried++
	}
}

// gives checks what a worker says it gave up when it went over to another state. c.mu is held.
func (c *checker) gives(p *process, l *progress, e *trainer.ResyncEvent) {
	tokens, steps := uint64(len(l.pending))*stepTokens, uint64(len(l.pending))
	was := l.state
	l.state = p.head()
	if e.CarriedTokens > 0 {
		if e.CarriedTokens != tokens || e.LostTokens+e.LostSteps+e.LostRounds > 0 || !c.ledger.ancestors(l.state)[was] {
			c.failed("%s carries %d tokens from round %d to %d and loses %d: it had %d", p.name(), e.CarriedTokens, e.FromRound, e.Round, e.LostTokens, tokens)
		}
		return
	}
	l.pending = nil
	rounds, known := uint64(0), true
	if c.w.row().Equal {
		now := l.state
		l.state = was
		var more uint64
		rounds, more, known = c.ledger.since(&l.work, now)
		l.state = now
		tokens, steps = tokens+more, steps+more/stepTokens
	}
	if c.w.params.strategy == "ddp" && e.Why != worker.Joining {
		steps++ // the gradient at hand
	}
	if !known {
		c.tally.unknown++
		return
	}
	c.tally.lostRounds += int(rounds)
	if e.LostRounds != rounds || e.LostTokens != tokens || e.LostSteps != steps {
		c.failed("%s goes from round %d to %d and says that it loses %d rounds, %d steps and %d tokens, want %d, %d and %d",
			p.name(), e.FromRound, e.Round, e.LostRounds, e.LostSteps, e.LostTokens, rounds, steps, tokens)
	}
}

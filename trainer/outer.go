package trainer

import (
	"math"

	"loco/gossip/exchange"
	"loco/kernels"
	"loco/trainer/strategy"
)

// landAll collects what flies, the main crossing first: where that says that this worker is behind
// the rest is of no use.
func (t *Trainer) landAll(out *landed) (in *strategy.Landing, err error) {
	in = &strategy.Landing{Formats: t.formats}
	main := t.strategy.Main()
	if main == nil {
		out.Outcome, out.brings = exchange.Outcome{Members: []int{t.cfg.Worker}, Attempts: 1}, t.pending
		return in, nil
	}
	f, err := t.land(main.Part)
	if out.Outcome, out.brings = f.out, f.brings; err != nil || out.Behind {
		return in, err
	}
	in.Means[main.Part] = out.Mean
	apart := len(out.Members)
	for _, c := range t.strategy.Crossings {
		if c.Part == main.Part {
			continue
		}
		began := t.hooks.Now()
		other, err := t.land(c.Part)
		if err != nil {
			return in, err
		}
		in.Means[c.Part] = other.out.Mean
		out.Seconds.Wait += t.hooks.Now().Sub(began).Seconds()
		out.BytesSent += other.out.BytesSent
		out.BytesReceived += other.out.BytesReceived
		apart = len(other.out.Members)
	}
	if apart > 1 {
		in.Spread = func(own, mean kernels.Buffer) {
			v := t.vectors
			v.Axpby(v.Fast, 1, own, -1, mean) // φ takes θ's place anyway
			out.std = replicaStd(v.SquaredNorm(v.Fast), v.Fast.Len(), apart)
		}
	}
	return in, nil
}

// outerStep takes the strategy's outer step, on the host's copy too, and begins the next round's θ
// from φ. Steps that were left out and are carried stay on top of φ.
func (t *Trainer) outerStep(in *strategy.Landing, out *landed) {
	if t.strategy.Outer == nil {
		return
	}
	v := t.vectors
	v.Round = t.round
	carries := t.carriesFrom(out.Outcome)
	if carries {
		v.Keep()
	}
	t.strategy.Outer(&v.Vectors, in)
	if t.strategy.Own || len(out.Mean) == 0 { // what the step was taken from is nowhere but here
		t.mirror.refresh(v)
	} else {
		t.followOuter(in)
	}
	switch {
	case carries:
		v.Rebase()
		v.push()
	case t.strategy.Resume != nil:
		t.strategy.Resume(&v.Vectors)
		v.push()
	default:
		v.restart()
	}
}

// followOuter lets the host's copy take the outer step of the round at hand.
func (t *Trainer) followOuter(in *strategy.Landing) {
	round, means := t.round, *in
	means.Spread = nil
	t.mirror.follow(func(m *vectors) {
		m.Round = round
		t.strategy.Outer(&m.Vectors, &means)
	})
}

// replicaStd estimates the standard deviation of a parameter across replicas from one
// group's members: squares is Σ(x − x̄)² over the n values of one of them. Averaged over
// pairs it is unbiased in the variance: E Σ(xᵢ − x̄)²·m/(m−1) for m members.
func replicaStd(squares float64, n, members int) *float64 {
	m := float64(members)
	std := math.Sqrt(squares / float64(n) * m / (m - 1))
	return &std
}

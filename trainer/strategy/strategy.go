// Package strategy holds the ways to train with little communication, one file each. A strategy
// is a row of one table: what a worker learns in a round, what crosses the network under the inner
// steps and with whom, what crosses when they are done and with whom, and the outer step that
// follows from the means.
//
//	strategy            crosses under the inner steps  crosses when they are done  outer step
//	diloco                                             Δ, everybody                Nesterov
//	noloco              φ, a pair                      Δ, a pair                   heavy ball with a pull
//	noloco, β = γ                                      θ, a pair                   the same, half the bytes
//	gasloc                                             y, a pair                   accelerated gossip
//	globalm1            φ, everybody                                               Nesterov on the own Δ
//	ddp                                                gradient, everybody         AdamW
//	alone
//
// θ are the inner weights, φ the slow ones, Δ is what a round has taught. The trainer's loop is the
// same for all: it begins each crossing in its time, trains, lands what flies at the end of the
// round, and takes the outer step. A strategy computes with the vectors that it is given and knows
// no network, clock or file.
package strategy

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"loco/gossip/exchange"
	"loco/kernels"
)

// Slow is the name of φ. A strategy that declares no vector has θ under this name in what is saved,
// shared and hashed.
const Slow = "slow"

// Strategy is one row of the table.
type Strategy struct {
	Name string
	// Vectors are what the strategy keeps besides θ, φ first. Empty: nothing.
	Vectors []Spec
	// Learnt sets v.Grad to Δ, what the round's inner steps have taught: its norm is reported, and it
	// is refused where it is not finite. Nil: v.Grad is the gradient already, or nobody asks.
	Learnt func(v *Vectors)
	// Crossings are what is averaged with others in a round, at most one of each part. All land at the
	// end of the round.
	Crossings []Crossing
	// Outer takes the outer step from the means and leaves φ in v.Of(Slow). θ may be overwritten unless
	// there is a Resume. Nil: the mean of the crossing is in v.Grad, and the inner optimizer takes the
	// step.
	Outer func(v *Vectors, in *Landing)
	// Resume makes θ from φ and from what was learnt while the exchange flew, which stays this worker's
	// to contribute. Nil: θ becomes φ.
	Resume func(v *Vectors)
	Traits
}

// Traits are what the rest of a worker must know of a strategy.
type Traits struct {
	// Equal replicas hold the same bits after every round: members of a mean agree on the state that
	// it starts from, a round can be replayed from its mean, the state of more tokens wins after a
	// split, and one worker evaluates for all.
	Equal bool
	// EveryStep exchanges the gradient of every inner step: a round is one step.
	EveryStep bool
	// Moments says that the inner moments are part of the state that replicas share.
	Moments bool
	// Own says that Outer reads θ or Δ of this worker, so that means alone do not give its result.
	Own bool
	// Carries says that steps which came too late may be put on top of another state.
	Carries bool
}

// Spec declares a vector of the model's length. It begins as zeros, φ as θ.
type Spec struct {
	Name   string
	Saved  bool // in checkpoints
	Shared bool // with joiners
	Digest bool // in the digest of the state
}

// State declares a vector that is part of the state: saved, shared and in its digest.
func State(name string) Spec { return Spec{Name: name, Saved: true, Shared: true, Digest: true} }

// Residual declares a vector of this worker's own that outlives a round, such as what a codec has
// left behind: saved, not shared.
func Residual(name string) Spec { return Spec{Name: name, Saved: true} }

// Scratch declares a vector that is of no use after a round.
func Scratch(name string) Spec { return Spec{Name: name} }

// Whom says which workers are in a mean.
type Whom uint8

// The groups of a crossing.
const (
	Everybody Whom = iota
	Pair
)

// WholeRound is the Under of a crossing that begins with the round.
const WholeRound = ^uint64(0)

// Crossing is an exchange in flight: begun in the middle of a round's inner steps, or before or
// after them, and collected at the round's end.
type Crossing struct {
	Part exchange.Part
	With Whom
	// Under is the number of inner steps under which it flies: 0 begins when they are done. What was
	// learnt flies under fewer than a whole round: the first round would have nothing to contribute.
	Under uint64
	// Vector returns what crosses. It may compute it into v.Grad, which is free between two inner
	// steps, or return a slice of a vector: what Landing's mean is applied to has the same length.
	Vector func(v *Vectors) kernels.Buffer
	// Encode returns what crosses as bytes, in the memory of dst where that is large enough, instead of
	// Vector: for a codec that is no format of a device. Outer then reads Landing.Means itself. What is
	// not finite is an error.
	Encode func(v *Vectors, dst []byte) (exchange.Vector, error)
}

// Delta is the crossing that most strategies have: v.Grad, when the inner steps are done.
func Delta(with Whom) Crossing {
	return Crossing{Part: exchange.Delta, With: with, Vector: func(v *Vectors) kernels.Buffer { return v.Grad }}
}

// Weights is the crossing of φ under the inner steps.
func Weights(with Whom) Crossing {
	return Crossing{Part: exchange.Slow, With: with, Under: WholeRound, Vector: func(v *Vectors) kernels.Buffer { return v.Of(Slow) }}
}

// Device does the arithmetic of a round's vectors.
type Device interface {
	kernels.Device
	kernels.Exchanger
}

// Vectors are a round's vectors on the device that computes with them.
type Vectors struct {
	Device
	Round uint64         // the round at hand
	Fast  kernels.Buffer // θ; nil on the host's copy of a strategy without Own
	Grad  kernels.Buffer // the gradient, whose memory takes what crosses
	Named map[string]kernels.Buffer
}

// Of returns a declared vector.
func (v *Vectors) Of(name string) kernels.Buffer { return v.Named[name] }

// Landing has the means of a round.
type Landing struct {
	Formats [exchange.Parts]kernels.Format
	Means   [exchange.Parts][]exchange.Term
	// Spread takes a member's vector and its group's mean, for the estimate of how far replicas are
	// apart; it overwrites v.Fast. Nil: nobody asks.
	Spread func(own, mean kernels.Buffer)
}

// Mean sets dst to the mean of a part. Without one, because nobody else was there, dst stays as it
// is.
func (l *Landing) Mean(v *Vectors, part exchange.Part, dst kernels.Buffer) {
	terms, f := l.Means[part], l.Formats[part]
	if len(terms) == 1 && terms[0].Share == 1 {
		v.Decode(dst, f, terms[0].Bytes)
		return
	}
	if len(terms) > 0 {
		v.Zero(dst)
	}
	for _, term := range terms {
		v.DecodeAdd(dst, f, term.Bytes, term.Share)
	}
}

// Apart reports how far this worker's vector was from the group's mean.
func (l *Landing) Apart(own, mean kernels.Buffer) {
	if l.Spread != nil {
		l.Spread(own, mean)
	}
}

// With says whom the strategy's crossings are with; false where it has none.
func (s *Strategy) With() (with Whom, any bool) {
	for _, c := range s.Crossings {
		return c.With, true
	}
	return Everybody, false
}

// Main is the crossing whose group a round is reported with: the last to begin. Nil: there is none.
func (s *Strategy) Main() *Crossing {
	var main *Crossing
	for i, c := range s.Crossings {
		if main == nil || c.Under < main.Under {
			main = &s.Crossings[i]
		}
	}
	return main
}

// Digests are the names of the vectors in the digest of a state, in order.
func (s *Strategy) Digests() (names []string) {
	for _, spec := range s.Vectors {
		if spec.Digest {
			names = append(names, spec.Name)
		}
	}
	if len(s.Vectors) == 0 {
		names = []string{Slow}
	}
	return names
}

// Root is the digest of the state that a round starts from, by the digests of its vectors: the
// SHA-256 of the round (8 bytes, little-endian) and the digest ([kernels.Digest]) of each vector
// that is part of it. It is what workers that average agree on.
func (s *Strategy) Root(round uint64, sums map[string][32]byte) (digest [32]byte) {
	h := sha256.New()
	h.Write(binary.LittleEndian.AppendUint64(nil, round))
	for _, name := range s.Digests() {
		sum := sums[name]
		h.Write(sum[:])
	}
	h.Sum(digest[:0])
	return digest
}

// row makes a strategy and says which keys of the configuration it has defaults for.
type row struct {
	name     string
	make     func(Options) (Strategy, error)
	defaults map[string]any // by key of the table [sync]
}

// rows is the registry: one line a strategy.
var rows = []row{
	{"diloco", newDiLoCo, nil},
	{"noloco", newNoLoCo, map[string]any{"outer_momentum": 0.5}},
	{"ddp", newDDP, map[string]any{"codec": "fp32"}}, // exact, so that it is the reference
	{"alone", newAlone, nil},
	{"gasloc", newGASLoC, gaslocDefaults},
	{"globalm1", newGlobalM1, nil},
}

// Names lists the strategies.
func Names() (names []string) {
	for _, r := range rows {
		names = append(names, r.name)
	}
	return names
}

// New returns a strategy. With an error about its options, which is an *OptionError, it returns the row
// all the same, for its traits.
func New(name string, o Options) (Strategy, error) {
	i := slices.IndexFunc(rows, func(r row) bool { return r.name == name })
	if i < 0 {
		return Strategy{}, fmt.Errorf("strategy %q is unknown: allowed are %s", name, strings.Join(Names(), ", "))
	}
	s, err := rows[i].make(o)
	s.Name = name
	return s, err
}

// Defaults are the defaults of the keys of the table [sync] that follow the strategy, nil for an
// unknown one. DiLoCo's are arXiv 2311.08105, section 3; NoLoCo's are arXiv 2506.10911, section 4,
// with the one value that its code has for β and γ.
func Defaults(name string) map[string]any {
	i := slices.IndexFunc(rows, func(r row) bool { return r.name == name })
	if i < 0 {
		return nil
	}
	all := map[string]any{"codec": "int8", "outer_lr": 0.7, "outer_momentum": 0.9, "beta": 0.7, "gamma": 0.7}
	for key, value := range rows[i].defaults {
		all[key] = value
	}
	return all
}

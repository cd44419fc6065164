// Package exchange holds the nouns of a round that the trainer, the averagers and the transfer of
// states to joiners share. It has no logic and imports the standard library alone.
package exchange

import (
	"errors"
	"time"
)

// Part says which vector of a round is averaged. Its number is on the wire.
type Part uint8

// The vectors that cross the network.
const (
	Delta Part = iota // what a worker has learnt: a pseudo-gradient, a gradient, or θ itself
	Slow              // the slow weights φ, known before the inner steps
	Parts             // how many there are
)

// Vector is what a worker brings to an exchange: the encoding of so many values in the part's codec.
// The bytes must not change until Average returns.
type Vector struct {
	Values int
	Bytes  []byte
	// Slack is how long the worker will train on before it needs the mean; 0: it waits. An all-reduce
	// waits for stragglers as long as that costs nobody anything.
	Slack time.Duration
}

// Term is Share·decoded(Bytes). The bytes are sound in the part's codec and must not be changed.
type Term struct {
	Bytes []byte
	Share float32
}

// Base is the state that a round starts from.
type Base struct {
	Digest [32]byte // equal replicas agree on it
	Tokens float64  // that all workers trained to get there: of two states the one with more wins
}

// Outcome says what became of one Average.
type Outcome struct {
	Members []int   // worker numbers that are in the mean, ascending
	Tokens  float64 // Σ of their weights; 0 for a pair
	// Former is set where the mean has this worker's number, but not the vector of this call: a
	// process that had the number before died, and the others adopted what it had had a part in.
	Former bool
	// Mean is the mean: its terms' sum in their order, from 0, products and sums in float32.
	// The bytes are valid until the next Average of the part. Without any term the vector stays
	// as it is.
	Mean []Term
	// Behind is set when this worker may not use the result: the others are in another round or
	// hold other bytes. It must fetch their state; Why says more.
	Behind bool
	Why    string
	// Torn is set where a pair's exchange ended in doubt: this worker went on alone, and its
	// partner, which it could not reach any more, may have applied the mean.
	Torn bool
	// Rejected names the peers that were left out, and why.
	Rejected []string
	// Late names the workers that are late in most rounds as this worker sees it, and are not
	// waited for but now and then; never of a pair.
	Late []Late

	Attempts int // with 0 nothing of the vector has left this worker
	// BytesSent and BytesReceived count the payload and headers of data frames.
	BytesSent, BytesReceived uint64
	Seconds                  Seconds
}

// Late is a worker that is late in most rounds.
type Late struct {
	Worker int
	// By is the median of its lateness. It is 0 where the worker mostly does not come at all
	// before the round is decided.
	By time.Duration
}

// Seconds splits an exchange by phase: Wait until the group closed; Encode and Decode the time
// spent in the codec and in sums, where it overlaps the wire at most the phase's length; Transfer
// the rest.
type Seconds struct{ Wait, Encode, Transfer, Decode float64 }

// Mark is a state that the run was in: the one that Round starts from.
type Mark struct {
	Round  uint64
	Digest [32]byte
}

// Head is where a worker stands.
type Head struct {
	Mark          // the round at hand and the state that it starts from
	Step   uint64 // of the schedule
	Tokens float64
	Past   []Mark        // of its lineage, ascending, the present state last; not to be changed
	Since  time.Duration // the round began
}

// Named is one vector of a state.
type Named struct {
	Name string
	Data []float32
}

// Find returns the vector of a name, nil where there is none.
func Find(vectors []Named, name string) []float32 {
	for _, v := range vectors {
		if v.Name == name {
			return v.Data
		}
	}
	return nil
}

// State is what a worker shares with a joiner.
type State struct {
	Mark
	Tokens  float64 // that all workers trained to get there
	Updates uint64  // that inner moments among the vectors have seen
	Vectors []Named
}

// Result is the committed mean of a round, as the codec has it.
type Result struct {
	Round  uint64
	Base   [32]byte // the digest of the state that it is a step from
	Tokens float64  // Σ of the weights in it
	Bytes  []byte
}

// Fetched is what a joiner got. It goes on from the vectors of its State, or from its own state
// where there are none, applies Results in their order, and is where the group is.
type Fetched struct {
	State
	Past    []Mark // states of the lineage before and until the last result, ascending
	Results []Result
	Moments *State // the inner moments of one worker; nil where not wanted or not to be had
	// GroupRound and GroupStep are where a source was when the fetch ended, and GroupSince how
	// long its round had taken.
	GroupRound, GroupStep uint64
	GroupSince            time.Duration
	Bytes                 int64    // that came over the network
	Blame                 []string // sources that were dropped, and why
}

// End returns the round and the tokens of the state that the results lead to.
func (f *Fetched) End() (round uint64, tokens float64) {
	round, tokens = f.Round, f.Tokens
	for _, r := range f.Results {
		round, tokens = round+1, tokens+r.Tokens
	}
	return round, tokens
}

// Want says what a fetch is for.
type Want struct {
	// Own is the state that this worker holds; the results since may be all that it lacks.
	// Length is the number of its parameters; 0: it holds none.
	Own     Mark
	Length  int
	Moments bool // of some worker, too
}

// ErrNobody is returned by a fetch when no other live member holds the run's state.
var ErrNobody = errors.New("no other member is ready")

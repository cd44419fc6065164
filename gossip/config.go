package gossip

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"loco/gossip/codec"
	"loco/gossip/exchange"
	"loco/gossip/protocol"
	"loco/mesh"
)

// Waits are the keys of the table [sync] that say how long an exchange waits for others. Every duration
// is of this machine's clock. The tags are the configuration's: name, bounds, documentation.
type Waits struct {
	// Deadline bounds one Average from call to return, or from the end of its slack. An all-reduce that
	// has not averaged by then is an error, a pair exchange goes on alone.
	Deadline time.Duration `toml:"deadline" id:"-" range:"100ms..168h" doc:"Longest that one exchange may take. Past it noloco goes on alone; an all-reduce that waits for most of the others says so and waits again, 20 times at most."`
	// Grace is how long the ready wait for the slow, and how long a peer may send nothing while something
	// is expected of it. One chunk must cross a link in it.
	Grace time.Duration `toml:"grace" id:"-" range:"1ms..168h" doc:"Longest that workers that are ready wait for a slower one, once half of the live are ready, before the group goes on without it. At most deadline."`
	// GraceMin is how long the ready of an all-reduce wait at least for a worker of which they do not know
	// that it is late in most rounds; 0: Grace.
	GraceMin time.Duration `toml:"grace_min" id:"-" range:"0s..168h" doc:"How long they wait at least for a worker that is in time in most rounds. In between they wait until it is expected, from its last 8 rounds: median + 4 deviations. For one whose median lateness is above this and above 1/(n-1) of a round, which is what its share is worth, they do not wait; it is named, and waited for as long as this in every 16th round. 0, or no less than grace: always grace, nothing is learnt. Not for noloco."`
	// MaxLag is how many rounds a pair's partners may be apart.
	MaxLag int `toml:"max_lag" range:"0..1000" doc:"NoLoCo: rounds that a partner may be ahead or behind."`
}

// Serving are the keys of the table [mesh] that bound what joiners are given.
type Serving struct {
	// StateUpload bounds the bytes a second that all joiners together are given, answers and manifests
	// included; 0: no bound. A joiner that gets nothing for Grace leaves its source, so Grace should be
	// enough for 16 KiB on each of their streams, some two a joiner.
	StateUpload int64 `toml:"state_upload" id:"-" range:"0..1000000000000" doc:"Bytes a second that this worker gives to all joiners together. 0: as many as the network takes."`
	// ReplayRounds and ReplayBytes bound the results of past rounds that are kept for joiners, and the
	// bytes of those that a joiner gathers. 0 rounds: none are kept. 0 bytes: 1 GiB.
	ReplayRounds int   `toml:"replay_rounds" id:"-" range:"0..100000" doc:"Results of past rounds that this worker keeps in memory, so that a worker that was away, or is still fetching a state, is brought up to date. 0: none, and a joiner must fetch the whole state within a round. Not for noloco."`
	ReplayBytes  int64 `toml:"replay_bytes" id:"-" range:"1..1000000000000000" doc:"Most bytes of those results, and of the ones that a joiner gathers while it fetches."`
}

// Config is what an averager needs. Every duration is of this machine's clock.
type Config struct {
	Mesh   mesh.Mesh
	Worker int // this worker's number, 0 … 65535, unique among live members
	// Codec carries part Delta, StateCodec part Slow of a pair (nil: Codec).
	Codec, StateCodec codec.Codec
	Waits
	Serving
	// Deadlines is how many of them an all-reduce waits while most of the others are alive and
	// not ready; 0: one.
	Deadlines int
	// SlowCycle is how many rounds a worker that is late in most of them trains for one
	// contribution, the same on every worker; 0 and 1: it has to be in time for each.
	SlowCycle int
	// Detection is the shortest silence after which Mesh calls a member dead; 0: Grace.
	Detection time.Duration
	// Part is the vector that an all-reduce averages: each has one of its own.
	Part exchange.Part
	// Unequal says that replicas differ by the strategy's design: members of an all-reduce need not hold
	// one state, no state outweighs another, and a joiner takes that of one member.
	Unequal bool
	// Quorum is the number of workers that the run is planned for, more than half of
	// which must be in a group of an all-reduce; 0: the members that are there go on.
	Quorum int
	Seed   uint64 // of the matching of pairs; the same on every worker
	// MaxState bounds the bytes of a state that FetchState accepts; 0: 64 GiB.
	MaxState int64
	// State returns what a joiner needs, a copy; nil when this worker serves none. Moments
	// does so of the inner moments, and may be nil.
	State, Moments func() (exchange.State, error)
	// Head says where this worker stands, and whether it holds the run's state. It does not
	// block. It goes with State.
	Head func() (exchange.Head, bool)
	// StateRoot is the digest of a state of these SHA-256 of its vectors, by name; nil: a
	// joiner believes its sources.
	StateRoot func(round uint64, sums map[string][32]byte) [32]byte
	StateSent func(bytes int) // counts those of chunks; nil: nobody does
	// StateHold bounds how long one copy of a state is served; 0: an hour. It is given back
	// earlier when nobody asks for it during Deadline.
	StateHold time.Duration
	// StateDir keeps what an interrupted fetch has got; "": it begins anew.
	StateDir string
	Logger   *slog.Logger // nil: no log
}

// The bounds where the configuration has 0.
const (
	maxStateDefault    = 64 << 30
	stateHoldDefault   = time.Hour
	replayBytesDefault = 1 << 30
)

func (c *Config) validate() error {
	switch {
	case c.Mesh == nil:
		return errors.New("gossip: configuration: Mesh is missing")
	case c.Worker < 0 || c.Worker > protocol.WorkerMax:
		return fmt.Errorf("gossip: configuration: Worker is %d, want 0 … %d", c.Worker, protocol.WorkerMax)
	case c.Codec == nil:
		return errors.New("gossip: configuration: Codec is missing")
	case c.Deadline <= 0 || c.Grace <= 0:
		return fmt.Errorf("gossip: configuration: Deadline %v and Grace %v must be positive", c.Deadline, c.Grace)
	case c.GraceMin < 0 || c.SlowCycle < 0:
		return fmt.Errorf("gossip: configuration: GraceMin %v and SlowCycle %d must not be negative", c.GraceMin, c.SlowCycle)
	case c.Part >= exchange.Parts:
		return fmt.Errorf("gossip: configuration: Part is %d, want 0 … %d", c.Part, exchange.Parts-1)
	case c.MaxLag < 0 || c.MaxState < 0 || c.Quorum < 0 || c.Detection < 0 || c.Deadlines < 0:
		return fmt.Errorf("gossip: configuration: MaxLag %d, MaxState %d, Quorum %d, Detection %v and Deadlines %d must not be negative", c.MaxLag, c.MaxState, c.Quorum, c.Detection, c.Deadlines)
	case c.State != nil && c.Head == nil:
		return errors.New("gossip: configuration: Head is missing, State needs it")
	case c.StateUpload < 0 || c.StateHold < 0 || c.ReplayRounds < 0 || c.ReplayBytes < 0:
		return fmt.Errorf("gossip: configuration: StateUpload %d, StateHold %v, ReplayRounds %d and ReplayBytes %d must not be negative", c.StateUpload, c.StateHold, c.ReplayRounds, c.ReplayBytes)
	}
	if c.StateCodec == nil {
		c.StateCodec = c.Codec
	}
	if c.MaxState == 0 {
		c.MaxState = maxStateDefault
	}
	if c.StateHold == 0 {
		c.StateHold = stateHoldDefault
	}
	if c.ReplayBytes == 0 {
		c.ReplayBytes = replayBytesDefault
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// codecOf is the codec of a part.
func (c *Config) codecOf(part exchange.Part) codec.Codec {
	if part == exchange.Slow {
		return c.StateCodec
	}
	return c.Codec
}

// check refuses what is no encoding by its length; what the bytes hold is looked at where
// they are decoded.
func check(v exchange.Vector, c codec.Codec) error {
	if v.Values < 1 || v.Values > protocol.LengthMax {
		return fmt.Errorf("vector of %d values, want 1 … %d", v.Values, protocol.LengthMax)
	}
	if !fits(c, v.Values, len(v.Bytes)) {
		return fmt.Errorf("vector of %d values in %d bytes, want %d of %s", v.Values, len(v.Bytes), c.EncodedLen(v.Values), c.Name())
	}
	return nil
}

// ErrDeadline is wrapped by the error of an all-reduce that had no result within
// Config.Deadline. Its vector is as it was, so the call may be repeated.
var ErrDeadline = protocol.ErrDeadline

// split divides the wall time since the group closed.
func split(wait, wall, encode, decode time.Duration) exchange.Seconds {
	encode = min(encode, wall)
	decode = min(decode, wall-encode)
	return exchange.Seconds{
		Wait: wait.Seconds(), Encode: encode.Seconds(), Decode: decode.Seconds(),
		Transfer: (wall - encode - decode).Seconds(),
	}
}

// AllReduceBytes is the payload that the member at index (ascending by worker) of an
// all-reduce of parameters values writes in one round: the other members' shards of
// its own vector, and its own shard of the result to every other member.
func AllReduceBytes(c codec.Codec, parameters, members, index int) int64 {
	var total int64
	for s, r := range protocol.Shards(parameters, members, c.Block()) {
		if n := r.Hi - r.Lo; s == index {
			total += int64(c.Down().EncodedLen(n)) * int64(members-1)
		} else {
			total += int64(c.EncodedLen(n))
		}
	}
	return total
}

// BytesPerRound is AllReduceBytes of the member that writes most, index 0.
func BytesPerRound(c codec.Codec, parameters, members int) int64 {
	return AllReduceBytes(c, parameters, members, 0)
}

// PairBytes is the payload that a worker writes for one part of a pair exchange.
func PairBytes(c codec.Codec, parameters int) int64 { return int64(c.EncodedLen(parameters)) }

package gossip

import (
	"context"
	"errors"
	"sync"
	"time"

	"loco/gossip/transfer"
	"loco/mesh"
)

// State is what a worker shares with a joiner, or what a joiner has fetched.
type State struct {
	Round   uint64   // the first round that starts from the vectors
	Digest  [32]byte // what Average takes as the digest for Round
	Tokens  float64  // that all workers trained to get there
	Updates uint64   // that inner moments among the vectors have seen
	Vectors []NamedVector
}

// Fetched is what a joiner got. It goes on from the vectors of its State, or from its own
// where there are none, applies Results in their order, and is where the group is.
type Fetched struct {
	State
	Past    []Mark // states of the lineage before and until the last result, ascending
	Results []Result
	Moments *State // of one worker; nil where not wanted or not to be had
	// GroupRound and GroupStep are where a source was when the fetch ended, and GroupSince how
	// long its round had taken.
	GroupRound, GroupStep uint64
	GroupSince            time.Duration
	Bytes                 int64    // that came over the network
	Blame                 []string // sources that were dropped, and why
}

// NamedVector is one vector of a state.
type NamedVector struct {
	Name string
	Data []float32
}

// Result is the committed mean of a round, as the codec has it.
type Result struct {
	Round  uint64
	Base   [32]byte // the digest of the state that it is a step from
	Tokens float64  // Σ of the weights in it
	Bytes  []byte
}

// Mark is a state that the run was in: the one that Round starts from.
type Mark = transfer.Mark

// Head is where a worker stands.
type Head struct {
	Round, Step uint64
	Since       time.Duration // the round began
	Digest      [32]byte      // of the state that Round starts from
	Tokens      float64
	Past        []Mark // of its lineage, ascending
}

// Want says what a fetch is for.
type Want struct {
	// Own is the state that this worker holds; the results since may be all that it lacks.
	// Length is the number of its parameters; 0: it holds none.
	Own     Mark
	Length  int
	Moments bool // of some worker, too
}

// ErrNobody is what FetchState returns when no other live member holds the run's
// state.
var ErrNobody = errors.New("no other member is ready")

const (
	stateID       = "/loco/gossip/state/3"
	stateServeMax = 128 // streams of joiners that are served at a time
	stateBurst    = 64 << 10
	stateSlice    = 16 << 10 // written at a time when the rate is limited
	stateWindow   = 8        // chunks asked of a source at a time
)

// states serves and fetches states. loco/gossip/transfer has what crosses and who decides.
type states struct {
	cfg      *Config
	replicas bool // workers hold the same bits, and rounds can be replayed
	// served is told of a joiner that will be ready for the round or the next.
	served func(joiner mesh.ID, round uint64)
	ctx    context.Context
	cancel context.CancelFunc
	log    resultLog
	taking chan struct{} // held while a state is captured

	mu      sync.Mutex
	bucket  *transfer.Bucket
	held    map[transfer.Kind]*object // the state and the moments that are served
	expiry  *time.Timer
	serving int
	closed  bool
	wg      sync.WaitGroup
}

func newStates(cfg *Config, replicas bool, served func(mesh.ID, uint64)) *states {
	s := &states{cfg: cfg, replicas: replicas, served: served, taking: make(chan struct{}, 1),
		log:    resultLog{roundsMax: cfg.ReplayRounds, bytesMax: cfg.ReplayBytes},
		bucket: transfer.NewBucket(cfg.StateUpload, stateBurst), held: map[transfer.Kind]*object{}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	if cfg.State != nil {
		cfg.Mesh.Handle(stateID, s.handle)
	}
	return s
}

func (s *states) close() {
	s.cfg.Mesh.Handle(stateID, nil)
	s.mu.Lock()
	s.closed = true
	clear(s.held)
	if s.expiry != nil {
		s.expiry.Stop()
	}
	s.mu.Unlock()
	s.cancel()
	s.wg.Wait()
}

// pause waits, and says whether ctx has not ended.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// paced gives each read and write of a stream Grace to make progress.
type paced struct {
	stream mesh.Stream
	grace  time.Duration
}

func (p *paced) Read(b []byte) (int, error) {
	_ = p.stream.SetDeadline(time.Now().Add(p.grace))
	return p.stream.Read(b)
}

func (p *paced) Write(b []byte) (int, error) {
	_ = p.stream.SetDeadline(time.Now().Add(p.grace))
	return p.stream.Write(b)
}

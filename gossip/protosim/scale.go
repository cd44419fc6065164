package protosim

import (
	"fmt"
	"slices"
	"time"

	"loco/gossip/protocol"
)

// ScaleOptions describes a world of many workers, made to measure what an exchange costs.
type ScaleOptions struct {
	Pairs   bool // the pair exchange; false: the all-reduce
	Workers int
	Rounds  uint64
	Chunks  int     // of the vector: each stands for 65,536 values in int8
	Die     float64 // share of the workers that crash for good, one after the other
	Slow    float64 // how many times slower the last worker's inner steps are; 0: as fast as the others'
	Seed    uint64
}

// ScaleReport says what a round cost, over all workers and rounds but the first.
type ScaleReport struct {
	Mean, Median, P99 time.Duration // from the end of the inner steps to the mean
	Messages          float64       // control messages that a worker sends in a round
	Control           float64       // their bytes
	Bytes             float64       // of everything that a worker sends in a round
	Alone             float64       // share of the Averages without a partner
	Fast, Last        ScaleShare    // of all workers but the last, and of the last
}

// ScaleShare is what became of some workers' time.
type ScaleShare struct {
	Compute float64 // share of it in inner steps
	Alone   float64 // share of the rounds without a partner
	Rounds  float64 // that a worker ended
	inner   time.Duration
	waited  time.Duration
	rounds  int
	alone   int
}

// The links and the work of these worlds.
const (
	scaleChunkBytes = 1<<16/256*260 + protocol.HeaderLen
	scaleBandwidth  = 100e6 / 8 // bytes per second each way
	scaleLatency    = 40 * time.Millisecond
	scaleSigma      = 0.3
	scaleInner      = time.Minute // and up to a quarter more
	scaleGrace      = 15 * time.Second
	scaleDetection  = 5 * time.Second
)

// scale measures a world.
type scale struct {
	ScaleOptions
	took     []time.Duration
	messages int
	control  int
	bytes    int
	alone    int
	shares   [2]ScaleShare  // of all but the last worker, of the last
	ended    map[uint64]int // workers that have ended a round
	from     uint64         // the first round that counts
}

// Scale runs a world of many.
func Scale(o ScaleOptions) (ScaleReport, error) {
	sc := &scale{ScaleOptions: o, ended: map[uint64]int{}, from: 1}
	r := Run(Options{Seed: o.Seed, Pairs: o.Pairs, scale: sc})
	if r.Err != nil {
		return ScaleReport{}, r.Err
	}
	if len(sc.took) == 0 {
		return ScaleReport{}, fmt.Errorf("no round was measured in %d", o.Rounds)
	}
	slices.Sort(sc.took)
	var sum time.Duration
	for _, t := range sc.took {
		sum += t
	}
	n := float64(len(sc.took))
	for i := range sc.shares {
		sc.shares[i].settle([2]int{sc.Workers - 1, 1}[i])
	}
	return ScaleReport{
		Mean: sum / time.Duration(len(sc.took)), Median: sc.took[len(sc.took)/2], P99: sc.took[len(sc.took)*99/100], Messages: float64(sc.messages) / n,
		Control: float64(sc.control) / n, Bytes: float64(sc.bytes) / n, Alone: float64(sc.alone) / n,
		Fast: sc.shares[0], Last: sc.shares[1],
	}, nil
}

func (s *ScaleShare) settle(workers int) {
	s.Compute = float64(s.inner) / float64(s.inner+s.waited)
	s.Alone = float64(s.alone) / float64(max(1, s.rounds))
	s.Rounds = float64(s.rounds) / float64(workers)
}

// share is that of a worker.
func (sc *scale) share(worker int) *ScaleShare {
	if worker == sc.Workers-1 {
		return &sc.shares[1]
	}
	return &sc.shares[0]
}

func (sc *scale) params() params {
	return params{
		workers: sc.Workers, blocks: sc.Chunks, grace: scaleGrace, deadline: 20 * scaleGrace, detection: scaleDetection,
		latency: scaleLatency, sigma: scaleSigma, chunkTime: time.Duration(float64(scaleChunkBytes) / scaleBandwidth * float64(time.Second)),
		inner: scaleInner, calm: true, lag: 2, fast: true,
	}
}

// schedule draws which workers die and when, and ends the run.
func (sc *scale) schedule(w *world) {
	if sc.Slow > 0 {
		w.nodes[sc.Workers-1].speed *= sc.Slow
	}
	length := time.Duration(sc.Rounds) * scaleInner
	for range int(sc.Die*float64(sc.Workers) + 0.5) {
		v := w.nodes[w.rng.IntN(sc.Workers)]
		w.in(scaleInner+time.Duration(w.rng.Int64N(int64(length-scaleInner))), func() {
			if v.proc != nil {
				v.crash()
			}
		})
	}
	w.in(10*length, func() { w.check.fail("%d rounds are not over after %v", sc.Rounds, 10*length) })
}

// count counts what a worker sends in the rounds that are measured.
func (sc *scale) count(f frame) {
	round := f.env.Round
	if f.msg == nil {
		round = f.header.Round
	}
	if round < sc.from || round > sc.Rounds {
		return
	}
	if f.msg == nil {
		sc.bytes += scaleChunkBytes
		return
	}
	n := protocol.HeaderLen + len(f.msg.AppendTo(nil))
	sc.messages++
	sc.control += n
	sc.bytes += n
}

// done notes that a worker has ended a round, some time after its inner steps.
func (sc *scale) done(w *world, worker int, took time.Duration, round uint64) {
	if s := sc.share(worker); round >= sc.from {
		s.waited += took
		s.rounds++
	}
	if sc.ended[round]++; round >= sc.from && round <= sc.Rounds {
		sc.took = append(sc.took, took)
	}
	w.over = w.over || sc.ended[sc.Rounds] >= len(w.live())
}

// ship brings a data frame over two lines that carry one frame after the other, the
// sender's and the receiver's, so that one busy receiver holds up no other.
func (l *link) ship(f frame) (free time.Duration) {
	w := l.w
	src, dst := w.nodes[l.from], w.nodes[l.to]
	src.free[0] = max(w.now, src.free[0]) + w.params.chunkTime
	at := max(src.free[0]+w.jitter(w.params.latency, w.params.sigma), l.last[data])
	l.last[data] = at
	w.at(at, func() {
		dst.free[1] = max(w.now, dst.free[1]) + w.params.chunkTime
		w.at(dst.free[1], func() { l.deliver(data, f, l.epoch[data]) })
	})
	return src.free[0]
}

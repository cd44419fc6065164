package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"

	"loco/trainer"
	"loco/trainer/strategy"
	"loco/worker"
	"loco/worker/config"
	"loco/worker/process"
)

// summaryFile is the summary in a run's folder.
const summaryFile = "summary.json"

// summary is DIR/summary.json. Names and units are documented in docs/metrics.md;
// scripts rely on them.
type summary struct {
	Name               string   `json:"name"`
	Complete           bool     `json:"complete"`
	Strategy           string   `json:"strategy"`
	Codec              string   `json:"codec"`
	Workers            int      `json:"workers"`
	Parameters         int      `json:"parameters"`
	Rounds             uint64   `json:"rounds"`       // completed exchanges
	Tokens             uint64   `json:"tokens"`       // trained by all workers
	LostTokens         uint64   `json:"lost_tokens"`  // of those, in no mean
	LateWorkers        []int    `json:"late_workers"` // late in most rounds, in the eyes of a worker at its end
	TokensPerSecond    float64  `json:"tokens_per_second"`
	HeldoutLoss        *float64 `json:"heldout_loss"` // nats per token; null before an evaluation
	Perplexity         *float64 `json:"perplexity"`
	ReplicaStd         float64  `json:"replica_std"`
	Digest             string   `json:"digest"`       // of φ of the lowest worker
	DigestEqual        bool     `json:"digest_equal"` // every worker ended with the same φ
	ComputeUtilisation float64  `json:"compute_utilisation"`
	BytesSent          uint64   `json:"bytes_sent"` // by all workers, in exchanges
	BytesReceived      uint64   `json:"bytes_received"`
	Seconds            float64  `json:"seconds"` // of all sessions
	Checkpoint         string   `json:"checkpoint"`
	Evaluated          string   `json:"evaluated"` // which weights the held-out loss is of
}

// workerView is what a supervisor knows of one worker from its events.
type workerView struct {
	address *process.AddressEvent
	step    trainer.StepEvent
	round   trainer.RoundEvent
	peers   worker.PeersEvent
	saved   *process.CheckpointEvent
	result  *process.ResultEvent
	eval    *trainer.EvalEvent
	lossSum float64 // of the steps since the last round: it makes the display smooth
	lossN   int

	tokens, session          uint64
	bytesSent, bytesReceived uint64 // in exchanges of this session
	inner, total             float64
	lost                     uint64       // tokens
	late                     map[int]bool // workers that it sees late
	down                     bool         // its process has ended
	ended                    bool         // it has sent its result
}

// board gathers the events of all workers of a local run.
type board struct {
	cfg     *config.Config
	workers map[int]*workerView
	only    bool // the events are of one worker of several
	curve   []trainer.EvalEvent
}

func newBoard(cfg *config.Config) *board {
	return &board{cfg: cfg, workers: map[int]*workerView{}}
}

func (b *board) worker(k int) *workerView {
	if b.workers[k] == nil {
		b.workers[k] = &workerView{}
	}
	return b.workers[k]
}

func (b *board) add(event any) {
	switch e := event.(type) {
	case *process.AddressEvent:
		w := b.worker(e.Worker)
		w.address, w.down = e, false
	case *worker.PeersEvent:
		b.worker(e.Worker).peers = *e
	case *trainer.StepEvent:
		w := b.worker(e.Worker)
		w.step, w.tokens = *e, e.Tokens
		w.lossSum += e.Loss
		w.lossN++
	case *trainer.RoundEvent:
		w := b.worker(e.Worker)
		w.round, w.tokens = *e, e.Tokens
		w.bytesSent += e.BytesSent
		w.bytesReceived += e.BytesReceived
		w.lossSum, w.lossN = 0, 0
		w.lost += e.LostTokens
		if w.ended { // a new process, which learns anew which workers are late
			w.ended, w.late = false, nil
		}
	case *trainer.ResyncEvent:
		b.worker(e.Worker).lost += e.LostTokens
	case *worker.LateEvent:
		w := b.worker(e.Worker)
		if w.late == nil {
			w.late = map[int]bool{}
		}
		w.late[e.Who] = e.Late
	case *trainer.EvalEvent:
		b.worker(e.Worker).eval = e
		b.curve = append(b.curve, *e)
	case *process.CheckpointEvent:
		b.worker(e.Worker).saved = e
	case *process.ResultEvent:
		w := b.worker(e.Worker)
		w.result, w.tokens, w.ended = e, e.Tokens, true
		w.inner, w.total, w.session = w.inner+e.InnerSeconds, w.total+e.Seconds, w.session+e.SessionTokens
	}
}

// addRecord takes the events of a worker's record.
func (b *board) addRecord(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, process.LineMax)
	for lines.Scan() {
		if e, err := process.ParseEvent(lines.Bytes()); err == nil { // a torn last line is no event
			b.add(e)
		}
	}
	return lines.Err()
}

// numbers are the workers that were heard from, ascending.
func (b *board) numbers() (ks []int) {
	for k := range b.workers {
		ks = append(ks, k)
	}
	slices.Sort(ks)
	return ks
}

// loss is the newest training loss, the mean over workers that trained since their
// last round, or of their last rounds.
func (b *board) loss() float64 {
	sum, n := 0.0, 0
	for _, w := range b.workers {
		switch {
		case w.lossN > 0:
			sum, n = sum+w.lossSum/float64(w.lossN), n+1
		case w.round.Round > 0:
			sum, n = sum+w.round.TrainLoss, n+1
		}
	}
	return sum / float64(n) // NaN before the first step
}

// heldout is the held-out loss of the newest evaluated round: the mean over the
// workers that evaluated it, as NoLoCo's paper reports it.
func (b *board) heldout() (loss float64, round uint64) {
	for _, e := range b.curve {
		round = max(round, e.Round)
	}
	sum, n := 0.0, 0
	for _, e := range b.curve {
		if e.Round == round {
			sum, n = sum+e.HeldoutLoss, n+1
		}
	}
	return sum / float64(n), round
}

func (b *board) totals() (tokens, sent, received uint64) {
	for _, w := range b.workers {
		tokens += w.tokens
		sent += w.bytesSent
		received += w.bytesReceived
	}
	return tokens, sent, received
}

// summarise makes the summary of a session that took seconds. before is the summary
// of the sessions before, or nil.
func (b *board) summarise(parameters int, seconds float64, before *summary) summary {
	s := summary{
		Name: b.cfg.Run.Name, Strategy: b.cfg.Sync.Strategy, Codec: b.cfg.Sync.Codec,
		Workers: b.cfg.Run.Workers, Parameters: parameters, Seconds: seconds, DigestEqual: true,
		Evaluated: evaluated(b.cfg.Sync.Strategy),
	}
	s.LateWorkers = b.lateWorkers()
	s.Tokens, s.BytesSent, s.BytesReceived = b.totals()
	var session uint64
	var inner, total, std float64
	stds := 0
	for _, k := range b.numbers() {
		w := b.workers[k]
		s.LostTokens += w.lost
		if w.round.ReplicaStd != nil {
			std, stds = std+*w.round.ReplicaStd, stds+1
		}
		r := w.result
		if r == nil {
			continue
		}
		inner, total = inner+w.inner, total+w.total
		session += w.session
		if s.Digest == "" {
			s.Digest, s.Checkpoint = r.Digest, r.Checkpoint
		}
		s.DigestEqual = s.DigestEqual && r.Digest == s.Digest
		s.Rounds = max(s.Rounds, r.Round)
		s.Complete = s.Complete || r.Complete
	}
	if loss, _ := b.heldout(); !math.IsNaN(loss) {
		s.setLoss(loss)
	}
	s.ReplicaStd = std / float64(max(1, stds))
	s.ComputeUtilisation = inner / max(total, 1e-9)
	s.TokensPerSecond = float64(session) / max(seconds, 1e-9)
	if before != nil {
		s.Seconds += before.Seconds
		s.LostTokens += before.LostTokens
		s.BytesSent += before.BytesSent
		s.BytesReceived += before.BytesReceived
		if s.HeldoutLoss == nil && before.HeldoutLoss != nil {
			s.setLoss(*before.HeldoutLoss)
		}
	}
	return s
}

// lateWorkers are those that some worker saw late when it last spoke of them, ascending.
func (b *board) lateWorkers() []int {
	late := []int{} // an empty list in JSON
	for _, w := range b.workers {
		for who, is := range w.late {
			if is && !slices.Contains(late, who) {
				late = append(late, who)
			}
		}
	}
	slices.Sort(late)
	return late
}

func (s *summary) setLoss(loss float64) {
	perplexity := math.Exp(loss)
	s.HeldoutLoss, s.Perplexity = &loss, &perplexity
}

// evaluated says which weights the held-out loss is of.
func evaluated(name string) string {
	if replicasDiffer(name) {
		return "mean over replicas, each with its own weights"
	}
	return "the shared weights"
}

// exchanging says whether workers of a strategy exchange anything.
func exchanging(name string) bool {
	row, _ := strategy.New(name, strategy.Options{})
	return len(row.Crossings) > 0
}

// replicasDiffer says whether workers of a strategy hold weights of their own between rounds.
func replicasDiffer(name string) bool {
	row, _ := strategy.New(name, strategy.Options{})
	return !row.Equal && exchanging(name)
}

func readSummary(dir string) (*summary, error) {
	path := filepath.Join(dir, summaryFile)
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	s := new(summary)
	if err := json.Unmarshal(data, s); err != nil {
		return nil, fmt.Errorf("%s: %w; delete it to have it written anew", path, err)
	}
	return s, nil
}

// writeJSON replaces a file by a value as indented JSON, whole or not at all.
func writeJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return process.WriteWhole(path, append(data, '\n'))
}

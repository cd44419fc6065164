package process

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"loco/checkpoint"
	"loco/gossip/exchange"
	"loco/trainer"
	"loco/trainer/model"
	"loco/trainer/strategy"
)

// innerNames are what a checkpoint calls vectors that no strategy declares. φ is the model's tensors
// there, and the strategy's others are "outer." and their names.
var innerNames = map[string]string{trainer.Fast: "inner.parameters", trainer.MomentM: "inner.m", trainer.MomentV: "inner.v"}

const outerPrefix = "outer."

// savedName is what a checkpoint calls a vector of a snapshot, loadedName is the way back.
func savedName(name string) string {
	if inner, ok := innerNames[name]; ok {
		return inner
	}
	return outerPrefix + name
}

func loadedName(saved string) string {
	for name, inner := range innerNames {
		if inner == saved {
			return name
		}
	}
	return strings.TrimPrefix(saved, outerPrefix)
}

// Keys of a checkpoint's meta.
const (
	metaRunID       = "run_id"
	metaConfig      = "config" // the effective file
	metaDataDir     = "data_dir"
	metaUpdates     = "updates"
	metaTrained     = "steps_trained"
	metaBatch       = "batches_read"
	metaRoundSteps  = "round_steps"
	metaRoundTokens = "round_tokens"
	metaCarried     = "carried_rounds"
	metaRoundTime   = "round_ns"
	metaRunTokens   = "run_tokens_bits" // float64, in hex
	metaRoundLoss   = "round_loss_bits" // float64, in hex
	metaPast        = "states"          // on the way, oldest first: "round:digest:tokens:steps", by spaces
)

// saver turns the trainer's snapshots into checkpoints, without a second copy.
type saver struct {
	writer  *checkpoint.Writer
	layout  []model.Tensor
	meta    map[string]string
	worker  int
	buffers map[*checkpoint.State]*trainer.Snapshot
}

func (s *Spec) newSaver(seat *seat, runID string, cfg checkpoint.Config) (*saver, error) {
	var text bytes.Buffer
	if err := s.cfg.Encode(&text); err != nil {
		return nil, err
	}
	w, err := checkpoint.New(cfg)
	if err != nil {
		return nil, err
	}
	return &saver{
		writer: w, layout: s.model.Layout(), worker: seat.number,
		meta:    map[string]string{metaRunID: runID, metaConfig: text.String(), metaDataDir: s.dataDir()},
		buffers: map[*checkpoint.State]*trainer.Snapshot{},
	}, nil
}

// save is the trainer's Save hook.
func (s *saver) save(_ context.Context, capture func(*trainer.Snapshot) error) error {
	st := s.writer.Borrow()
	snap := s.buffers[st]
	if snap == nil {
		snap = new(trainer.Snapshot)
		s.buffers[st] = snap
	}
	if err := capture(snap); err != nil {
		s.writer.Release(st)
		return err
	}
	s.fill(st, snap)
	if err := s.writer.Save(st); err != nil {
		s.writer.Release(st)
		return err
	}
	return nil
}

// fill describes a snapshot to the checkpoint's writer. The vectors stay where they
// are.
func (s *saver) fill(st *checkpoint.State, snap *trainer.Snapshot) {
	st.Round, st.Step, st.Tokens, st.Worker = snap.Round, snap.Step, snap.Tokens, s.worker
	st.Model = st.Model[:0]
	slow := snap.Vector(strategy.Slow)
	for _, t := range s.layout {
		st.Model = append(st.Model, checkpoint.Vector{Name: t.Name, Shape: t.Shape, Data: slow[t.Offset : t.Offset+t.Len]})
	}
	st.Vectors = st.Vectors[:0]
	for _, v := range snap.Vectors {
		if v.Name != strategy.Slow {
			st.Vectors = append(st.Vectors, checkpoint.Vector{Name: savedName(v.Name), Shape: []int{len(v.Data)}, Data: v.Data})
		}
	}
	st.Meta = map[string]string{
		metaUpdates:     strconv.FormatUint(snap.Updates, 10),
		metaTrained:     strconv.FormatUint(snap.Trained, 10),
		metaBatch:       strconv.FormatUint(snap.Batch, 10),
		metaRoundSteps:  strconv.FormatUint(snap.RoundSteps, 10),
		metaRoundTokens: strconv.FormatUint(snap.RoundTokens, 10),
		metaCarried:     strconv.FormatUint(snap.Carried, 10),
		metaRoundTime:   strconv.FormatInt(int64(snap.RoundTime), 10),
		metaRunTokens:   strconv.FormatUint(math.Float64bits(snap.RunTokens), 16),
		metaRoundLoss:   strconv.FormatUint(math.Float64bits(snap.RoundLoss), 16),
		metaPast:        textOfMarks(snap.Past),
	}
	for k, v := range s.meta {
		st.Meta[k] = v
	}
}

// snapshotOf is fill backwards.
func snapshotOf(st *checkpoint.State, layout []model.Tensor) (*trainer.Snapshot, error) {
	snap := &trainer.Snapshot{Round: st.Round, Step: st.Step, Tokens: st.Tokens}
	slow, err := flatten(st.Model, layout)
	if err != nil {
		return nil, err
	}
	snap.Vectors = []exchange.Named{{Name: strategy.Slow, Data: slow}}
	for _, v := range st.Vectors {
		snap.Vectors = append(snap.Vectors, exchange.Named{Name: loadedName(v.Name), Data: v.Data})
	}
	for key, dst := range map[string]*uint64{metaUpdates: &snap.Updates, metaBatch: &snap.Batch,
		metaRoundSteps: &snap.RoundSteps, metaRoundTokens: &snap.RoundTokens, metaCarried: &snap.Carried} {
		if *dst, err = strconv.ParseUint(st.Meta[key], 10, 64); err != nil {
			return nil, fmt.Errorf("meta %s: %w", key, err)
		}
	}
	snap.Trained = snap.Updates // of an older release, which did not tell the two apart
	if text, ok := st.Meta[metaTrained]; ok {
		if snap.Trained, err = strconv.ParseUint(text, 10, 64); err != nil {
			return nil, fmt.Errorf("meta %s: %w", metaTrained, err)
		}
	}
	ns, err := strconv.ParseInt(st.Meta[metaRoundTime], 10, 64)
	if err != nil || ns < 0 {
		return nil, fmt.Errorf("meta %s: %q is no time since the round began", metaRoundTime, st.Meta[metaRoundTime])
	}
	snap.RoundTime = time.Duration(ns)
	for key, dst := range map[string]*float64{metaRoundLoss: &snap.RoundLoss, metaRunTokens: &snap.RunTokens} {
		bits, err := strconv.ParseUint(st.Meta[key], 16, 64)
		if err != nil {
			return nil, fmt.Errorf("meta %s: %w", key, err)
		}
		*dst = math.Float64frombits(bits)
	}
	snap.Past, err = marksOf(st.Meta[metaPast])
	return snap, err
}

// textOfMarks writes the states that led to a checkpoint, so that a worker that is started
// again with it knows where it left the others' lineage.
func textOfMarks(past []trainer.Passed) string {
	var b strings.Builder
	for i, m := range past {
		if i > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "%d:%x:%d:%d", m.Round, m.Digest, m.Tokens, m.Steps)
	}
	return b.String()
}

// marksOf is textOfMarks backwards; a checkpoint of an older release has none.
func marksOf(text string) (past []trainer.Passed, err error) {
	for word := range strings.FieldsSeq(text) {
		m, err := markOf(strings.Split(word, ":"))
		if err != nil {
			return nil, fmt.Errorf("meta %s: %q is not round:digest:tokens:steps: %w", metaPast, word, err)
		}
		past = append(past, m)
	}
	return past, nil
}

func markOf(fields []string) (m trainer.Passed, err error) {
	if len(fields) != 4 || hex.DecodedLen(len(fields[1])) != len(m.Digest) {
		return m, fmt.Errorf("%d fields", len(fields))
	}
	_, err = hex.Decode(m.Digest[:], []byte(fields[1]))
	for i, dst := range map[int]*uint64{0: &m.Round, 2: &m.Tokens, 3: &m.Steps} {
		if err == nil {
			*dst, err = strconv.ParseUint(fields[i], 10, 64)
		}
	}
	return m, err
}

// flatten lays named tensors out as the model's arena.
func flatten(vectors []checkpoint.Vector, layout []model.Tensor) ([]float32, error) {
	last := layout[len(layout)-1]
	flat := make([]float32, last.Offset+last.Len)
	for _, t := range layout {
		data, ok := checkpoint.Find(vectors, t.Name)
		if !ok {
			return nil, fmt.Errorf("tensor %s is missing", t.Name)
		}
		if len(data) != t.Len {
			return nil, fmt.Errorf("tensor %s has %d values, the model %d", t.Name, len(data), t.Len)
		}
		copy(flat[t.Offset:], data)
	}
	return flat, nil
}

package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"loco/checkpoint"
	"loco/kernels"
	"loco/kernels/cpu"
	"loco/trainer"
	"loco/trainer/data"
	"loco/trainer/model"
	"loco/worker/config"
)

// Loaded is a checkpoint's model, ready to evaluate or to generate.
type Loaded struct {
	spec   *Spec
	device kernels.Device
	model  *model.Model
	state  *checkpoint.State
}

// LoadModel reads a checkpoint and puts its φ on a device, for batch sequences at a
// time.
func LoadModel(path string, batch int) (*Loaded, error) {
	st, err := checkpoint.Load(path)
	if err != nil {
		return nil, err
	}
	cfg, err := config.Parse(filepath.Join(path, "manifest.json"), []byte(st.Meta[metaConfig]), nil)
	if err != nil {
		return nil, fmt.Errorf("configuration in the checkpoint: %w", err)
	}
	l := &Loaded{state: st}
	if l.spec, err = NewSpec(&cfg, filepath.Dir(st.Meta[metaDataDir])); err != nil {
		return nil, err
	}
	slow, err := flatten(st.Model, l.spec.model.Layout())
	if err != nil {
		return nil, fmt.Errorf("checkpoint %s: %w", path, err)
	}
	if l.device, err = evaluationDevice(cfg.Inner); err != nil {
		return nil, err
	}
	if l.model, err = model.NewInference(l.device, l.spec.model, batch); err != nil {
		return nil, errors.Join(err, l.device.Close())
	}
	l.device.Upload(l.model.Params(), slow)
	return l, nil
}

// evaluationDevice is a device of the kind that the run trained on or, on a machine that
// does not have it, the CPU in its own precision. It computes on all cores, since it is
// alone on the machine, unlike a worker.
func evaluationDevice(in config.Inner) (kernels.Device, error) {
	in.Threads, in.Devices = 0, nil
	c, err := openCompute(in, 0)
	if err != nil {
		return cpu.New(0, kernels.Auto)
	}
	return c.devices[0], nil
}

// Evaluate returns the held-out loss of a checkpoint of this run.
func (s *Spec) Evaluate(ctx context.Context, path string) (float64, error) {
	l, err := LoadModel(path, s.cfg.MicroBatch())
	if err != nil {
		return 0, err
	}
	defer l.device.Close()
	loss, _, err := l.loss(ctx, s.dataDir(), s.cfg.Run.EvalTokens)
	return loss, err
}

// Round is the round of the checkpoint.
func (l *Loaded) Round() uint64 { return l.state.Round }

// Close gives the device back.
func (l *Loaded) Close() error { return l.device.Close() }

// HeldoutLoss is the mean loss over so many held-out tokens, 0 for all, in nats per token:
// of the run's data or, where source is not empty, of the text that it names.
func (l *Loaded) HeldoutLoss(ctx context.Context, source string, tokens int) (loss float64, evaluated int64, err error) {
	dir := l.state.Meta[metaDataDir]
	if _, err := os.Stat(dir); err != nil || source != "" { // another machine, or other data
		if dir, err = os.MkdirTemp("", "loco-eval-*"); err != nil {
			return 0, 0, err
		}
		defer os.RemoveAll(dir)
	}
	if source != "" {
		l.spec.cfg.Data.Source = source
	}
	return l.loss(ctx, dir, tokens)
}

// loss is the mean over held-out tokens; dir is where their shards are or go.
func (l *Loaded) loss(ctx context.Context, dir string, tokens int) (float64, int64, error) {
	set, err := data.Prepare(ctx, DataOptions(l.spec.cfg, dir))
	if err != nil {
		return 0, 0, err
	}
	l.spec.cfg.Run.EvalTokens = tokens
	heldout, err := l.spec.heldout(set, l.model.MicroBatch())
	if err != nil {
		return 0, 0, err
	}
	scratch := make([]int32, 2*l.model.Rows())
	loss, err := trainer.Loss(l.model, heldout, scratch[:l.model.Rows()], scratch[l.model.Rows():])
	return loss, heldout.Tokens(), err
}

// Generate returns a prompt with n more tokens.
func (l *Loaded) Generate(prompt string, n int, temperature float64, topK int, seed uint64, emit func(string)) error {
	tokenizer, err := data.TokenizerByName(l.spec.cfg.Data.Tokenizer)
	if err != nil {
		return err
	}
	ids := tokenizer.Encode(nil, []byte(prompt))
	tokens, err := l.model.Generate(ids, n, temperature, topK, seed)
	if err != nil {
		return Usage(err)
	}
	emit(prompt)
	for t := range tokens {
		emit(string(tokenizer.Decode(nil, []int32{t})))
	}
	return nil
}

// SampleText is a short text from a checkpoint, for the end of a run.
func SampleText(path, prompt string, n int) (string, error) {
	l, err := LoadModel(path, 1)
	if err != nil {
		return "", err
	}
	defer l.device.Close()
	var b strings.Builder
	err = l.Generate(prompt, n, 0.7, 40, 1, func(s string) { b.WriteString(s) })
	return strings.ToValidUTF8(b.String(), "�"), err
}

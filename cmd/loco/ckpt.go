package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"loco/checkpoint"
	"loco/kernels"
	"loco/trainer"
	"loco/trainer/data"
	"loco/trainer/model"
	"loco/worker/config"
)

// findCheckpoint takes a checkpoint's folder, a folder of checkpoints, or a run's
// folder, and returns the checkpoint that is meant: the newest, of the lowest worker.
func findCheckpoint(path string) (string, error) {
	if _, err := os.Stat(path); err != nil {
		return "", usageError{fmt.Errorf("checkpoint %s: %w", path, err)}
	}
	if _, err := os.Stat(filepath.Join(path, "manifest.json")); err == nil {
		return path, nil
	}
	workers, err := checkpointFolders(path)
	if err != nil {
		return "", err
	}
	newest := ""
	for _, dir := range workers {
		found, skipped, err := checkpoint.Latest(dir)
		for _, s := range skipped {
			fmt.Fprintln(os.Stderr, "loco: skipped:", s)
		}
		if err != nil && !errors.Is(err, checkpoint.ErrNone) {
			return "", err
		}
		if err == nil && filepath.Base(found) > filepath.Base(newest) { // round-00000012
			newest = found
		}
	}
	if newest != "" {
		return newest, nil
	}
	return "", usageError{fmt.Errorf("%s holds no valid checkpoint; name a run's folder or a checkpoint's (…/round-00000012)", path)}
}

// checkpointFolders lists the folders of checkpoints in path: itself, or one for each
// worker of a run.
func checkpointFolders(path string) ([]string, error) {
	entries, err := checkpoint.List(path)
	if err != nil {
		return nil, err
	}
	if len(entries) > 0 {
		return []string{path}, nil
	}
	roots := []string{path, filepath.Join(path, "checkpoints")}
	if cfg, err := config.Load(filepath.Join(path, configFile), nil); err == nil && cfg.Checkpoint.Dir != "" {
		roots = append(roots, cfg.Checkpoint.Dir)
	}
	var dirs []string
	for _, root := range roots {
		for k := range workerNumberMax {
			dir := filepath.Join(root, fmt.Sprintf("worker-%d", k))
			if entries, err := checkpoint.List(dir); err != nil {
				return nil, err
			} else if len(entries) > 0 {
				dirs = append(dirs, dir)
			}
		}
	}
	return dirs, nil
}

// loaded is a checkpoint's model, ready to evaluate or to generate.
type loaded struct {
	spec   *spec
	device kernels.Device
	model  *model.Model
	state  *checkpoint.State
}

// loadModel reads a checkpoint and puts its φ on a device, for batch sequences at a
// time.
func loadModel(path string, batch int) (*loaded, error) {
	st, err := checkpoint.Load(path)
	if err != nil {
		return nil, err
	}
	cfg, err := config.Parse(filepath.Join(path, "manifest.json"), []byte(st.Meta[metaConfig]), nil)
	if err != nil {
		return nil, fmt.Errorf("configuration in the checkpoint: %w", err)
	}
	l := &loaded{state: st}
	if l.spec, err = newSpec(&cfg, filepath.Dir(st.Meta[metaDataDir])); err != nil {
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
		return kernels.NewCPU(0, kernels.Auto)
	}
	return c.devices[0], nil
}

// evaluate returns the held-out loss of a checkpoint of this run.
func (s *spec) evaluate(ctx context.Context, path string) (float64, error) {
	l, err := loadModel(path, s.cfg.MicroBatch())
	if err != nil {
		return 0, err
	}
	defer l.device.Close()
	loss, _, err := l.loss(ctx, s.dataDir(), s.cfg.Run.EvalTokens)
	return loss, err
}

// loss is the mean over held-out tokens; dir is where their shards are or go.
func (l *loaded) loss(ctx context.Context, dir string, tokens int) (float64, int64, error) {
	set, err := data.Prepare(ctx, dataOptions(l.spec.cfg, dir))
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

// generate returns a prompt with n more tokens.
func (l *loaded) generate(prompt string, n int, temperature float64, topK int, seed uint64, emit func(string)) error {
	tokenizer := data.Bytes{}
	ids := tokenizer.Encode(nil, []byte(prompt))
	tokens, err := l.model.Generate(ids, n, temperature, topK, seed)
	if err != nil {
		return usageError{err}
	}
	emit(prompt)
	for t := range tokens {
		emit(string(tokenizer.Decode(nil, []int32{t})))
	}
	return nil
}

// sampleText is a short text from a checkpoint, for the end of a run.
func sampleText(path, prompt string, n int) (string, error) {
	l, err := loadModel(path, 1)
	if err != nil {
		return "", err
	}
	defer l.device.Close()
	var b strings.Builder
	err = l.generate(prompt, n, 0.7, 40, 1, func(s string) { b.WriteString(s) })
	return strings.ToValidUTF8(b.String(), "�"), err
}

type checkpointCmd struct {
	List   checkpointList   `cmd:"" help:"List the checkpoints of a run, a worker, or one checkpoint's."`
	Verify checkpointVerify `cmd:"" help:"Read every file again and compare its hash."`
}

type checkpointList struct {
	Dir  string `arg:"" help:"Run's folder, or a folder of checkpoints."`
	JSON bool   `help:"Print JSON, one object a line."`
}

func (checkpointList) Help() string { return "Example:\n  loco checkpoint list runs/tiny-1a2b3c4d" }

// listing is one checkpoint in the output.
type listing struct {
	Path   string `json:"path"`
	Worker int    `json:"worker"`
	Round  uint64 `json:"round"`
	Step   uint64 `json:"step"`
	Tokens uint64 `json:"tokens"`
	Bytes  int64  `json:"bytes"`
	Error  string `json:"error,omitempty"`
}

func (c *checkpointList) Run() error {
	all, err := listings(c.Dir)
	if err != nil {
		return err
	}
	enc := json.NewEncoder(os.Stdout)
	for _, l := range all {
		switch {
		case c.JSON:
			if err := enc.Encode(l); err != nil {
				return err
			}
		case l.Error != "":
			fmt.Printf("%s  DAMAGED: %s\n", l.Path, l.Error)
		default:
			fmt.Printf("%s  round %d  step %d  %s tokens  %s\n", l.Path, l.Round, l.Step, formatCount(float64(l.Tokens)), formatBytes(uint64(l.Bytes)))
		}
	}
	return nil
}

func listings(path string) (all []listing, err error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, usageError{err}
	}
	if _, err := os.Stat(filepath.Join(path, "manifest.json")); err == nil {
		path = filepath.Dir(path)
	}
	dirs, err := checkpointFolders(path)
	if err != nil {
		return nil, err
	}
	for _, dir := range dirs {
		entries, err := checkpoint.List(dir)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			l := listing{Path: e.Path, Round: e.Round, Worker: e.Manifest.Worker, Step: e.Manifest.Step, Tokens: e.Manifest.Tokens, Bytes: e.Manifest.Bytes()}
			if e.Err != nil {
				l.Error = e.Err.Error()
			}
			all = append(all, l)
		}
	}
	if len(all) == 0 {
		return nil, usageError{fmt.Errorf("%s holds no checkpoint", path)}
	}
	return all, nil
}

type checkpointVerify struct {
	Dir  string `arg:"" help:"Checkpoint's folder, a folder of checkpoints, or a run's folder."`
	JSON bool   `help:"Print JSON, one object a line."`
}

func (checkpointVerify) Help() string {
	return "Exit code 1 when one is damaged.\n\nExample:\n  loco checkpoint verify runs/tiny-1a2b3c4d"
}

func (c *checkpointVerify) Run() error {
	all, err := listings(c.Dir)
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(c.Dir, "manifest.json")); err == nil {
		clean := filepath.Clean(c.Dir)
		only := all[:0]
		for _, l := range all {
			if filepath.Clean(l.Path) == clean {
				only = append(only, l)
			}
		}
		all = only
	}
	damaged := 0
	enc := json.NewEncoder(os.Stdout)
	for _, l := range all {
		if l.Error == "" {
			if _, err := checkpoint.Verify(l.Path); err != nil {
				l.Error = err.Error()
			}
		}
		verdict := "whole"
		if l.Error != "" {
			damaged++
			verdict = "DAMAGED: " + l.Error
		}
		if c.JSON {
			if err := enc.Encode(l); err != nil {
				return err
			}
			continue
		}
		fmt.Printf("%s  %s\n", l.Path, verdict)
	}
	if damaged > 0 {
		return fmt.Errorf("%d of %d checkpoints are damaged; a run that resumes skips them", damaged, len(all))
	}
	return nil
}

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"loco/gossip/codec"
	"loco/trainer/model"
	"loco/worker/config"
)

// Names in a run's folder.
const (
	configFile  = "config.toml"
	summaryFile = "summary.json"
	recordFile  = "metrics.jsonl"
	logFile     = "log.jsonl"
	addressFile = "address"
)

// spec is a run as its configuration describes it, and where it lives.
type spec struct {
	cfg   *config.Config
	dir   string
	model model.Config

	codec, stateCodec codec.Codec // of pseudo-gradients and of weights
}

func newSpec(cfg *config.Config, dir string) (*spec, error) {
	s := &spec{cfg: cfg, dir: dir, model: modelConfig(cfg)}
	if err := s.model.Validate(); err != nil {
		return nil, usageError{err}
	}
	var err error
	s.codec, s.stateCodec, err = codecsOf(cfg)
	return s, err
}

// codecsOf returns what pseudo-gradients and weights cross the network in.
func codecsOf(cfg *config.Config) (delta, state codec.Codec, err error) {
	if delta, err = codec.ByName(cfg.Sync.Codec); err != nil {
		return nil, nil, usageError{err}
	}
	if state, err = codec.ByName(cfg.Sync.StateCodec); err != nil {
		return nil, nil, usageError{err}
	}
	return delta, state, nil
}

func (s *spec) parameters() int { return s.model.Parameters() }

func modelConfig(cfg *config.Config) model.Config {
	m := cfg.Model
	return model.Config{
		Vocab: m.Vocab, Layers: m.Layers, Width: m.Width, Heads: m.Heads, KVHeads: m.KVHeads,
		FFN: m.FFN, Context: m.Context, RopeTheta: m.RoPETheta, NormEps: m.NormEps,
		InitStd: m.InitStd, Tied: m.Tied, Checkpoint: m.Checkpointing,
	}
}

func (s *spec) workerDir(number int) string {
	return filepath.Join(s.dir, fmt.Sprintf("worker-%d", number))
}

// checkpointDir is where a worker's checkpoints are kept.
func (s *spec) checkpointDir(number int) string {
	dir := s.cfg.Checkpoint.Dir
	if dir == "" {
		dir = filepath.Join(s.dir, "checkpoints")
	}
	return filepath.Join(dir, fmt.Sprintf("worker-%d", number))
}

// claimDir checks that the run's folder holds this run, and writes the configuration
// into it where there is none, or where it is to be renewed: keys that are no part of
// the run's identity may change.
func claimDir(dir string, cfg *config.Config, renew bool) error {
	path := filepath.Join(dir, configFile)
	if _, err := os.Stat(path); err == nil {
		there, err := config.Load(path, nil)
		if err != nil {
			return err
		}
		if a, b := config.Differences(there.Canonical(), cfg.Canonical()); len(a)+len(b) > 0 {
			return usageError{fmt.Errorf("%s holds another run; give this one another --dir. Its configuration has\n  %s\nand the one asked for has\n  %s", dir, strings.Join(a, "\n  "), strings.Join(b, "\n  "))}
		}
		if !renew {
			return nil
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var text bytes.Buffer
	if err := cfg.Encode(&text); err != nil {
		return err
	}
	return writeWhole(path, text.Bytes())
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

func presetNames() string {
	var names []string
	for _, p := range config.Presets() {
		names = append(names, p.Name)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

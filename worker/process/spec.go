package process

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"loco/gossip/codec"
	"loco/trainer/model"
	"loco/worker/config"
)

// Names in a run's folder.
const (
	ConfigFile  = "config.toml"
	RecordFile  = "metrics.jsonl"
	LogFile     = "log.jsonl"
	addressFile = "address"
)

// Spec is a run as its configuration describes it, and where it lives.
type Spec struct {
	cfg   *config.Config
	dir   string
	model model.Config

	codec, stateCodec codec.Codec // of pseudo-gradients and of weights
}

// NewSpec describes the run of a valid configuration in a folder.
func NewSpec(cfg *config.Config, dir string) (*Spec, error) {
	s := &Spec{cfg: cfg, dir: dir, model: modelConfig(cfg)}
	if err := s.model.Validate(); err != nil {
		return nil, Usage(err)
	}
	var err error
	s.codec, s.stateCodec, err = codecsOf(cfg)
	return s, err
}

// Parameters is how many the model has.
func (s *Spec) Parameters() int { return s.model.Parameters() }

func (s *Spec) workerDir(number int) string {
	return filepath.Join(s.dir, fmt.Sprintf("worker-%d", number))
}

// checkpointDir is where a worker's checkpoints are kept.
func (s *Spec) checkpointDir(number int) string {
	dir := s.cfg.Checkpoint.Dir
	if dir == "" {
		dir = filepath.Join(s.dir, "checkpoints")
	}
	return filepath.Join(dir, fmt.Sprintf("worker-%d", number))
}

// ClaimDir checks that the run's folder holds this run, and writes the configuration
// into it where there is none, or where it is to be renewed: keys that are no part of
// the run's identity may change.
func ClaimDir(dir string, cfg *config.Config, renew bool) error {
	path := filepath.Join(dir, ConfigFile)
	if _, err := os.Stat(path); err == nil {
		there, err := config.Load(path, nil)
		if err != nil {
			return err
		}
		if there.Run.Time > 0 { // written by hand, and nobody has planned it yet
			there.Run.Rounds = cfg.Run.Rounds
		}
		if a, b := config.Differences(there.Canonical(), cfg.Canonical()); len(a)+len(b) > 0 {
			return Usage(fmt.Errorf("%s holds another run; give this one another --dir. Its configuration has\n  %s\nand the one asked for has\n  %s", dir, strings.Join(a, "\n  "), strings.Join(b, "\n  ")))
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
	return WriteWhole(path, text.Bytes())
}

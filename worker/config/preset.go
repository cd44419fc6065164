package config

import (
	"fmt"
	"strings"
	"time"

	"loco/gossip"
	"loco/mesh/swim"
	"loco/trainer/strategy"
)

const defaultPreset = "tiny"

// Info describes a preset in a line.
type Info struct{ Name, Summary string }

// Presets lists the presets, smallest first.
func Presets() []Info {
	var infos []Info
	for _, p := range presets() {
		infos = append(infos, Info{p.name, p.summary})
	}
	return infos
}

// Preset returns a preset, or an *Error that lists the names.
func Preset(name string) (Config, error) { return LoadPreset(name, nil) }

// Default is the preset tiny: a Llama of three hundred thousand parameters that four
// workers on two cores train in minutes, with nothing to download.
func Default() Config {
	return Config{
		Run: Run{
			Name: "tiny", Seed: 1, Workers: 4,
			Rounds:      180, // 3600 steps: two minutes on two cores with AMX, three with AVX-512
			Time:        Duration(2 * time.Minute),
			EvalEvery:   4,     // the curve is the point
			EvalTokens:  32768, // of which a second computes all
			ReportEvery: 5,
		},
		Model: Model{
			Layers: 3, Width: 96, Heads: 3, KVHeads: 1, FFN: 256, Context: 128,
			Vocab:     256,                                 // bytes
			RoPETheta: 10000, NormEps: 1e-5, InitStd: 0.02, // Llama 2
			Tied: true, // of so few parameters the head would be a tenth
		},
		Data: Data{
			Source: "go", Heldout: 0.02, Tokenizer: "bytes",
			MaxBytes: 32 << 20, // read in a second, never seen twice in the run
		},
		Inner: Inner{
			LR: 3e-3, MinLRRatio: 0.1, // small models take a large rate; at 5e-3 the last bits change the loss by a percent
			Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, WeightDecay: 0.1, Clip: 1, // prime, OpenDiLoCo
			Schedule: "cosine", Warmup: 20, Decay: 60, Device: "auto", Precision: "auto",
			Batch: 8,
		},
		Sync: Sync{
			Strategy: DiLoCo, Codec: "int8", StateCodec: "fp32", InnerSteps: 20,
			// Of so few rounds the paper's memory of ten is too long (docs/log.md); NoLoCo's authors
			// lowered it for their DiLoCo baseline too.
			Options:     strategy.Options{OuterLR: 0.7, OuterMomentum: 0.6, Beta: 0.7, Gamma: 0.7, SlowCycle: 1}, // see strategy.Defaults
			Waits:       gossip.Waits{Deadline: time.Minute, Grace: 15 * time.Second, GraceMin: 5 * time.Second, MaxLag: 2},
			Quorum:      AnySide,
			JoinMoments: "fresh", JoinWarmup: 10, // docs/results.md: fetched moments gain 0.0006 nats for twice the bytes
		},
		Mesh: Mesh{
			Listen: []string{"/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"}, // of this machine alone
			Config: swim.Config{
				Heartbeat: time.Second, ProbeEvery: time.Second, SuspectAfter: 5 * time.Second, DeadAfter: 15 * time.Second,
				DeadAfterRefused: time.Second, // a closed port of this machine means that the process is gone
				Forget:           10 * time.Minute,
			},
			DialTimeout: Duration(5 * time.Second), RedialMax: Duration(5 * time.Second), JoinTimeout: Duration(time.Minute),
			Serving: gossip.Serving{
				StateUpload: 50 << 20, // on loopback; the inner steps need the cores more
				// Of its 0.33 MB rounds two hundred. A worker that was away for mesh.dead_after misses ten.
				ReplayRounds: 256, ReplayBytes: 64 << 20,
			},
		},
		Checkpoint: Checkpoint{Every: 5, Keep: 2, Tmpfs: "/dev/shm"},
		Metrics:    Metrics{Listen: "127.0.0.1:0"},
	}
}

type preset struct {
	name, summary string
	settings      []setting
}

// setting is one key of a preset and where its value is from.
type setting struct {
	key    string
	value  any // string, bool, int, float64
	source string
}

func findPreset(name string) (preset, bool) {
	for _, p := range presets() {
		if p.name == name {
			return p, true
		}
	}
	return preset{}, false
}

func presetNames() []string {
	var names []string
	for _, p := range presets() {
		names = append(names, p.name)
	}
	return names
}

// presetConfig builds a preset on Default. A preset is part of this package: a key or
// a type that is wrong is a bug and panics; a test builds them all.
func presetConfig(name string) (Config, bool) {
	p, ok := findPreset(name)
	if !ok {
		return Config{}, false
	}
	l := &loader{cfg: Default(), keys: Keys(), origins: map[string]origin{}}
	l.layer(func() {
		for _, s := range p.settings {
			k, ok := l.key(s.key)
			if !ok {
				panic("config: preset " + name + ": unknown key " + s.key)
			}
			value := s.value
			if n, isInt := value.(int); isInt {
				value = int64(n)
			}
			l.set(k, value, name, fmt.Sprint(value))
		}
	})
	if len(l.problems) > 0 {
		panic("config: preset " + name + ": " + l.problems[0].String())
	}
	l.cfg.Run.Name = strings.ReplaceAll(name, " ", "-")
	return l.cfg, true
}

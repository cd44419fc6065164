package config

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"loco/gossip/codec"
	"loco/trainer/data"
	"loco/trainer/strategy"
)

func TestEveryKeyIsDocumentedAndInBounds(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range Keys() {
		if seen[k.Name] {
			t.Errorf("%s is declared twice", k.Name)
		}
		seen[k.Name] = true
		if strings.HasSuffix(k.Name, ".") || strings.ToLower(k.Name) != k.Name {
			t.Errorf("%s: not a lower-case name", k.Name)
		}
		if len(k.Doc) < 15 || !strings.HasSuffix(k.Doc, ".") {
			t.Errorf("%s: doc %q is not a sentence", k.Name, k.Doc)
		}
		numeric := k.Kind == "number" || k.Kind == "duration" || k.Kind == "whole number" && k.Name != "run.seed"
		if numeric && !k.bounds.set {
			t.Errorf("%s has no range", k.Name)
		}
		if k.bounds.set && k.bounds.lo >= k.bounds.hi {
			t.Errorf("%s: empty range %s", k.Name, k.bounds)
		}
	}
	names, docs := Tables()
	for _, name := range names {
		if docs[name] == "" {
			t.Errorf("[%s] has no doc", name)
		}
	}
	for _, name := range []string{"run.rounds", "run.workers", "run.seed", "model.layers", "model.width", "model.heads", "model.kv_heads",
		"model.context", "data.source", "inner.lr", "inner.batch", "inner.threads", "sync.strategy", "sync.codec", "sync.inner_steps",
		"sync.outer_lr", "sync.outer_momentum", "sync.beta", "sync.gamma", "checkpoint.dir"} {
		if !seen[name] {
			t.Errorf("scripts rely on %s", name)
		}
	}
}

func TestPresetsAreValidAndRoundTrip(t *testing.T) {
	if got := len(Presets()); got != 6 {
		t.Fatalf("%d presets, want 6", got)
	}
	for _, info := range Presets() {
		cfg, err := Preset(info.Name)
		if err != nil {
			t.Fatalf("%s: %v", info.Name, err)
		}
		var file bytes.Buffer
		if err := cfg.Encode(&file); err != nil {
			t.Fatal(err)
		}
		back, err := Parse(info.Name+".toml", file.Bytes(), nil)
		if err != nil {
			t.Fatalf("%s: %v", info.Name, err)
		}
		if !reflect.DeepEqual(cfg, back) {
			t.Errorf("%s: loading the encoded file gives\n%+v\nwant\n%+v", info.Name, back, cfg)
		}
		file.Reset()
		if err := EncodePreset(&file, info.Name); err != nil {
			t.Fatal(err)
		}
		if back, err = Parse(info.Name, file.Bytes(), nil); err != nil || !reflect.DeepEqual(cfg, back) {
			t.Errorf("%s: EncodePreset does not round trip (%v)", info.Name, err)
		}
		if info.Name != defaultPreset && strings.Count(file.String(), "Source: ") < 20 {
			t.Errorf("%s: output names too few sources", info.Name)
		}
		p, _ := findPreset(info.Name)
		for _, s := range p.settings {
			if s.source == "" {
				t.Errorf("%s: %s has no source", info.Name, s.key)
			}
		}
	}
	if _, err := Preset("home-60"); err == nil || !strings.Contains(err.Error(), "did you mean home-60m?") {
		t.Errorf("Preset(home-60) = %v", err)
	}
}

// Numbers of algorithms and published runs that must not drift.
func TestPresetNumbers(t *testing.T) {
	for _, tc := range []struct {
		preset                   string
		layers, width, heads, h  int
		steps, tokensPerStepFull uint64
	}{
		{"diloco-150m", 12, 896, 16, 500, 88000, 8 * 512 * 1024},
		{"noloco-125m", 12, 768, 16, 50, 25000, 524288},
		{"opendiloco-1b", 22, 2048, 32, 125, 44000, 8192 * 1024},
		{"intellect-1", 42, 4096, 32, 100, 90400, 14 * 1048576},
	} {
		c, err := Preset(tc.preset)
		if err != nil {
			t.Fatal(err)
		}
		m := c.Model
		if m.Layers != tc.layers || m.Width != tc.width || m.Heads != tc.heads || c.Sync.InnerSteps != tc.h {
			t.Errorf("%s: %+v", tc.preset, m)
		}
		if c.TotalSteps() != tc.steps || uint64(c.Run.Workers)*c.TokensPerStep() != tc.tokensPerStepFull {
			t.Errorf("%s: %d steps of %d tokens, want %d of %d", tc.preset, c.TotalSteps(), uint64(c.Run.Workers)*c.TokensPerStep(), tc.steps, tc.tokensPerStepFull)
		}
	}
}

func TestLayers(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "run.toml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("preset = \"home-60m\"\n[inner]\nlr = 1\nwarmup = 1_0\n[mesh]\njoin = []\nheartbeat = \"2s\"\n")
	c, err := Load(path, []string{"inner.batch=128", ` run.name = "my-run" `, "mesh.join=/ip4/192.0.2.1/tcp/1/p2p/A, /ip4/192.0.2.2/tcp/1/p2p/B", "model.tied=false", "inner.lr=2e-4"})
	if err != nil {
		t.Fatal(err)
	}
	if c.Model.Width != 896 || c.Inner.Warmup != 10 || c.Inner.Batch != 128 || c.Run.Name != "my-run" || c.Inner.LR != 2e-4 ||
		len(c.Mesh.Join) != 2 || c.Model.Tied || c.Mesh.Heartbeat != 2*time.Second {
		t.Errorf("%+v", c)
	}
	if c, err = Load("", []string{`mesh.join=["/ip4/192.0.2.1/tcp/1/p2p/A"]`}); err != nil || len(c.Mesh.Join) != 1 {
		t.Errorf("list as TOML: %v %v", c.Mesh.Join, err)
	}
	if _, err = Load(filepath.Join(dir, "none.toml"), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	if d := Default(); d.Run.Name != "tiny" || d.Validate() != nil {
		t.Errorf("Default: %v", d.Validate())
	}
}

// run.time decides unless run.rounds is set in its layer or a later one.
func TestRoundsOverrideTime(t *testing.T) {
	for _, tc := range []struct {
		name   string
		file   string
		sets   []string
		rounds int
		time   time.Duration
	}{
		{"default", "", nil, 180, 2 * time.Minute},
		{"another time", "", []string{"run.time=5m"}, 180, 5 * time.Minute},
		{"no time", "", []string{"run.time=0s"}, 180, 0},
		{"rounds", "", []string{"run.rounds=180"}, 180, 0},
		{"rounds, in a file", "[run]\nrounds = 7", nil, 7, 0},
		{"rounds of a preset", "preset = \"home-60m\"", nil, 45, 0},
		{"both", "[run]\nrounds = 7\ntime = \"5m\"", nil, 7, 0},
		{"both, in the other order", "", []string{"run.time=5m", "run.rounds=7"}, 7, 0},
		{"rounds above a time", "[run]\ntime = \"5m\"", []string{"run.rounds=7"}, 7, 0},
		{"a time above rounds", "[run]\nrounds = 7", []string{"run.time=5m"}, 180, 5 * time.Minute},
		{"a time above a preset", "preset = \"home-60m\"", []string{"run.time=1h"}, 180, time.Hour},
		{"warmup of a run without a length", "", []string{"inner.warmup=5000"}, 180, 2 * time.Minute},
	} {
		c, err := Parse("run.toml", []byte(tc.file), tc.sets)
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		if c.Run.Rounds != tc.rounds || c.Run.Time.Std() != tc.time {
			t.Errorf("%s: %d rounds, %v; want %d, %v", tc.name, c.Run.Rounds, c.Run.Time, tc.rounds, tc.time)
		}
		var file bytes.Buffer
		if err := c.Encode(&file); err != nil {
			t.Fatal(err)
		}
		if back, err := Parse("back.toml", file.Bytes(), nil); err != nil || !reflect.DeepEqual(c, back) {
			t.Errorf("%s: does not round trip: %+v (%v)", tc.name, back.Run, err)
		}
	}
	c, err := Parse("run.toml", nil, []string{"inner.warmup=5000"})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.SetRounds(249); err == nil || !strings.Contains(err.Error(), "inner.warmup = 5000 must be at most the run's 4980 steps") {
		t.Errorf("SetRounds(249) = %v", err)
	}
	if err := c.SetRounds(250); err != nil || c.Run.Rounds != 250 || c.Run.Time != 0 {
		t.Errorf("SetRounds(250) = %v, %+v", err, c.Run)
	}
}

// The ID of the default run, as it was when it had rounds and no time. Scripts and folders
// rely on it.
func TestRunIDOfExplicitRounds(t *testing.T) {
	c, err := Load("", []string{"run.rounds=180"})
	if err != nil {
		t.Fatal(err)
	}
	if got := c.RunID()[:16]; got != "dd37f4b4c92e8b37" {
		t.Errorf("run.rounds=180 is the run %s", got)
	}
	open := Default()
	if open.RunID() != c.RunID() {
		t.Error("a worker that takes the default's rounds is of another run")
	}
}

func TestKeysFollowTheStrategy(t *testing.T) {
	for _, tc := range []struct {
		name     string
		file     string
		sets     []string
		codec    string
		momentum float64
		workers  int
	}{
		{"default", "", nil, "int8", 0.6, 4}, // tiny's own
		{"noloco", "", []string{"sync.strategy=noloco"}, "int8", 0.5, 4},
		{"ddp", "", []string{"sync.strategy=ddp"}, "fp32", 0.9, 4},
		{"alone", "", []string{"sync.strategy=alone"}, "int8", 0.9, 1},
		{"same layer wins", "", []string{"sync.outer_momentum=0.4", "sync.strategy=noloco"}, "int8", 0.4, 4},
		{"file sets both", "[sync]\nstrategy=\"noloco\"\nouter_momentum=0.2\ncodec=\"bf16\"", nil, "bf16", 0.2, 4},
		{"own value stays", "[sync]\ncodec=\"bf16\"", []string{"sync.strategy=noloco"}, "bf16", 0.5, 4},
		{"effective file", "[sync]\nstrategy=\"diloco\"\nouter_momentum=0.9\ncodec=\"int8\"", []string{"sync.strategy=noloco"}, "int8", 0.5, 4},
		{"there and back", "[sync]\nstrategy=\"noloco\"", []string{"sync.strategy=diloco"}, "int8", 0.6, 4},
		{"as tiny tuned it", "[sync]\nouter_momentum=0.6", []string{"sync.strategy=noloco"}, "int8", 0.5, 4},
		{"preset below", "preset=\"noloco-125m\"", []string{"sync.strategy=diloco"}, "fp32", 0.9, 8},
		{"same strategy again", "[sync]\nouter_momentum=0.8", []string{"sync.strategy=diloco"}, "int8", 0.8, 4},
	} {
		c, err := Parse("run.toml", []byte(tc.file), tc.sets)
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		if c.Sync.Codec != tc.codec || c.Sync.OuterMomentum != tc.momentum || c.Run.Workers != tc.workers {
			t.Errorf("%s: codec %s, momentum %g, workers %d; want %s, %g, %d", tc.name,
				c.Sync.Codec, c.Sync.OuterMomentum, c.Run.Workers, tc.codec, tc.momentum, tc.workers)
		}
	}
}

// TestRegistriesAreTheListsOfTheirKeys: a codec or tokenizer that cannot be asked for, or
// one that can and does not exist, is a mistake.
func TestRegistriesAreTheListsOfTheirKeys(t *testing.T) {
	want := map[string][]string{"sync.codec": codec.Names(), "sync.strategy": strategy.Names(), "data.tokenizer": data.TokenizerNames()}
	for _, k := range Keys() {
		if list, ok := want[k.Name]; ok {
			if len(list) == 0 || !slices.Equal(k.OneOf, list) {
				t.Errorf("%s allows %v, its registry has %v", k.Name, k.OneOf, list)
			}
			delete(want, k.Name)
		}
		if k.Name != "sync.state_codec" {
			continue
		}
		for _, text := range k.OneOf {
			if _, err := codec.ByName(text); err != nil {
				t.Errorf("sync.state_codec allows %s: %v", text, err)
			}
		}
	}
	if len(want) > 0 {
		t.Errorf("no such keys: %v", want)
	}
	for _, name := range data.TokenizerNames() {
		c, err := Parse("run.toml", []byte("[data]\ntokenizer = \""+name+"\""), nil)
		if err != nil || c.Data.Tokenizer != name {
			t.Errorf("tokenizer %s: %v", name, err)
		}
	}
	if _, err := Parse("run.toml", []byte("[model]\nvocab = 255"), nil); err == nil || !strings.Contains(err.Error(), "data.tokenizer = bytes needs at least 256") {
		t.Errorf("a vocabulary of 255 for bytes: error %v", err)
	}
	for _, name := range codec.Names() {
		c, err := Parse("run.toml", []byte("[sync]\ncodec = \""+name+"\""), nil)
		if err != nil || c.Sync.Codec != name {
			t.Errorf("codec %s: %v", name, err)
		}
	}
}

func TestErrors(t *testing.T) {
	for _, tc := range []struct {
		name, file string
		sets       []string
		want       []string // whole lines
	}{
		{"syntax", "[run]\nrounds = = 3", nil, []string{"run.toml:2:10: unexpected character U+003D '=' at start of value"}},
		{"unknown key", "[sync]\n\ngama = 1", nil, []string{"run.toml:3: sync.gama = 1: unknown key (did you mean sync.gamma?)"}},
		{"wrong table", "[model]\nlr = 1e-3", nil, []string{"run.toml:2: model.lr = 0.001: unknown key (did you mean inner.lr?)"}},
		{"no guess", "[model]\nxyzzyplugh = 1", nil, []string{"run.toml:2: model.xyzzyplugh = 1: unknown key; `loco config show` lists them all"}},
		{"unknown table", "[snyc]\ngamma = 1", nil, []string{"run.toml:1: [snyc]: unknown table (did you mean [sync]?); allowed: run, model, data, inner, sync, mesh, checkpoint, metrics"}},
		{"top level", "rounds = 4", nil, []string{"run.toml:1: rounds = 4: unknown key (did you mean run.rounds?)"}},
		{"table as value", "run = 4", nil, []string{"run.toml:1: run = 4: is a table: write [run] and its keys below it"}},
		{"preset name", "preset = \"tinny\"", nil, []string{"run.toml:1: preset = \"tinny\": unknown preset (did you mean tiny?); allowed: tiny, home-60m, diloco-150m, noloco-125m, opendiloco-1b, intellect-1"}},
		{"preset type", "preset = 3", nil, []string{"run.toml:1: preset = 3: has type whole number; allowed: the name of a preset: tiny, home-60m, diloco-150m, noloco-125m, opendiloco-1b, intellect-1"}},
		{"type", "[run]\nrounds = \"many\"", nil, []string{`run.toml:2: run.rounds = "many": has type text; allowed: whole number, 1 to 10000000`}},
		{"fraction", "[run]\nrounds = 1.5", nil, []string{"run.toml:2: run.rounds = 1.5: has type number; allowed: whole number, 1 to 10000000"}},
		{"bool", "[model]\ntied = 1", nil, []string{"run.toml:2: model.tied = 1: has type whole number; allowed: true or false"}},
		{"not finite", "[inner]\nlr = nan", nil, []string{"run.toml:2: inner.lr = NaN: must be a finite number"}},
		{"subtable", "[sync.gamma]\nx = 1", nil, []string{"run.toml:1: sync.gamma = {...}: has type table; allowed: number, above 0 and below 2"}},
		{"inline table", "sync = { gamma = 7.0,\n nope = 1 }", nil, []string{"run.toml:1: sync.gamma = 7.0: must be above 0 and below 2", "run.toml:2: sync.nope = 1: unknown key; `loco config show` lists them all"}},
		{"negative seed", "[run]\nseed = -1", nil, []string{"run.toml:2: run.seed = -1: must not be negative"}},
		{"range", "[run]\nrounds = 0", nil, []string{"run.toml:2: run.rounds = 0: must be 1 to 10000000"}},
		{"half-open range", "[inner]\nbeta1 = 1", nil, []string{"run.toml:2: inner.beta1 = 1.0: must be at least 0 and below 1"}},
		{"one of", "[sync]\nstrategy = \"dilocco\"", nil, []string{`run.toml:2: sync.strategy = "dilocco": must be one of diloco, noloco, ddp, alone, gasloc, globalm1 (did you mean diloco?)`}},
		{"duration", "[sync]\ndeadline = \"soon\"", nil, []string{`run.toml:2: sync.deadline = "soon": not a duration; write "250ms", "30s", "10m" or "2h"`}},
		{"duration range", "[sync]\ndeadline = \"-1s\"", nil, []string{`run.toml:2: sync.deadline = "-1s": must be 100ms to 168h`}},
		{"set", "", []string{"sync.gamma=lots"}, []string{"--set: sync.gamma = lots: has type text; allowed: number, above 0 and below 2"}},
		{"set without value", "", []string{"sync.gamma"}, []string{`--set: "sync.gamma" must be table.key=value, such as sync.inner_steps=50`}},
		{"set unknown", "", []string{"sync.gama=1"}, []string{"--set: sync.gama = 1: unknown key (did you mean sync.gamma?)"}},
		{"gamma in the file", "\n\n[sync]\nstrategy = \"noloco\"\ngamma = 1.7", nil, []string{
			"run.toml:5: sync.gamma = 1.7: NoLoCo is stable only for 0 < gamma < 2(1 - alpha^2): with sync.outer_momentum (alpha) = 0.5 that is 0 < sync.gamma < 1.5, and sync.gamma is 1.7"}},
		{"alpha of the user", "", []string{"sync.strategy=noloco", "sync.outer_momentum=0.9"}, []string{
			"--set: sync.outer_momentum = 0.9: NoLoCo is stable only for 0 < gamma < 2(1 - alpha^2): with sync.outer_momentum (alpha) = 0.9 that is 0 < sync.gamma < 0.38, and sync.gamma is 0.7"}},
		{"heads", "[model]\nheads = 5\nkv_heads = 5\nwidth = 96", nil, []string{"run.toml:2: model.heads = 5: model.heads = 5 must divide model.width = 96"}},
		{"odd head", "[model]\nheads = 32\nkv_heads = 32\nwidth = 96", nil, []string{"run.toml:2: model.heads = 32: the size of a head, model.width / model.heads = 3, must be even: RoPE turns pairs of values"}},
		{"kv heads", "[model]\nkv_heads = 2\nheads = 3\nwidth = 96", nil, []string{"run.toml:2: model.kv_heads = 2: model.kv_heads = 2 must divide model.heads = 3"}},
		{"vocab", "[model]\nvocab = 255", nil, []string{"run.toml:2: model.vocab = 255: data.tokenizer = bytes needs at least 256"}},
		{"device", "[inner]\ndevice = \"gpu\"", nil, []string{`run.toml:2: inner.device = "gpu": must be auto, cpu, or cuda:N with a number N from 0 to 255`}},
		{"device number", "", []string{"inner.device=cuda:01"}, []string{`--set: inner.device = "cuda:01": must be auto, cpu, or cuda:N with a number N from 0 to 255`}},
		{"devices and device", "[inner]\ndevices = [0, 1]\ndevice = \"cuda:2\"", nil, []string{"run.toml:2: inner.devices = [0, 1]: names the devices already: inner.device must be auto, it is cuda:2"}},
		{"devices twice", "[inner]\ndevices = [3, 3]", nil, []string{"run.toml:2: inner.devices = [3, 3]: names device 3 twice"}},
		{"devices negative", "", []string{"inner.devices=0,-1"}, []string{"--set: inner.devices = [0, -1]: -1 must be a number from 0 to 255"}},
		{"devices as texts", "[inner]\ndevices = [\"0\"]", nil, []string{"run.toml:2: inner.devices = [...]: item 1 has type text; allowed: whole number"}},
		{"devices and batch", "[inner]\ndevices = [0, 1, 2]", nil, []string{"run.toml:2: inner.devices = [0, 1, 2]: inner.devices names 3 devices, which must divide inner.batch = 8"}},
		{"devices and micro batch", "[inner]\ndevices = [0, 1]\nmicro_batch = 8", nil, []string{"run.toml:3: inner.micro_batch = 8: inner.micro_batch = 8 must divide the 4 sequences of a device, inner.batch = 8 over 2 devices"}},
		{"micro batch", "[inner]\nmicro_batch = 3", nil, []string{"run.toml:2: inner.micro_batch = 3: inner.micro_batch = 3 must divide inner.batch = 8"}},
		{"warmup", "[inner]\nwarmup = 301\n[run]\nrounds = 15", nil, []string{"run.toml:2: inner.warmup = 301: inner.warmup = 301 must be at most the run's 300 steps (run.rounds x sync.inner_steps)"}},
		{"wsd tail", "[inner]\nschedule = \"wsd\"\ndecay = 281\n[run]\nrounds = 15", nil, []string{"run.toml:3: inner.decay = 281: inner.warmup + inner.decay = 301 must be at most the run's 300 steps (run.rounds x sync.inner_steps)"}},
		{"tokens", "[run]\nrounds = 10000000\n[sync]\ninner_steps = 1000000\n[inner]\nbatch = 4096", nil, []string{
			"run.toml:2: run.rounds = 10000000: run.workers x run.rounds x sync.inner_steps x inner.batch x model.context must be at most 1e18 tokens"}},
		{"eval", "[run]\neval_tokens = 127\n[model]\ncontext = 128", nil, []string{"run.toml:2: run.eval_tokens = 127: must be at least one sequence, model.context = 128"}},
		{"alone", "[run]\nworkers = 2\n[sync]\nstrategy = \"alone\"", nil, []string{"run.toml:2: run.workers = 2: sync.strategy = alone trains one worker: run.workers must be 1, it is 2"}},
		{"inner time of ddp", "[sync]\nstrategy = \"ddp\"\ninner_time = \"1m\"", nil, []string{`run.toml:3: sync.inner_time = "1m": sync.inner_time = 1m has no meaning for ddp, which exchanges at every step: leave it at 0s`}},
		{"cycle of noloco", "[sync]\nslow_cycle = 4\nstrategy = \"noloco\"", nil, []string{`run.toml:2: sync.slow_cycle = 4: sync.slow_cycle = 4 is for diloco, whose steps can be put on top of another state, not for noloco: leave it at 1`}},
		{"grace", "[sync]\ngrace = \"2m\"", nil, []string{`run.toml:2: sync.grace = "2m": sync.grace = 2m must be at most sync.deadline = 1m`}},
		{"heartbeat", "[mesh]\nheartbeat = \"5s\"", nil, []string{`run.toml:2: mesh.heartbeat = "5s": mesh.suspect_after = 5s must be longer than mesh.heartbeat = 5s, or every member is suspect`}},
		{"dead", "[mesh]\ndead_after = \"5s\"", nil, []string{`run.toml:2: mesh.dead_after = "5s": mesh.dead_after = 5s must be longer than mesh.suspect_after = 5s`}},
		{"suspect floor", "[mesh]\nsuspect_min = \"6s\"", nil, []string{`run.toml:2: mesh.suspect_min = "6s": mesh.suspect_min = 6s must be at most mesh.suspect_after = 5s`}},
		{"dead floor", "[mesh]\ndead_min = \"16s\"", nil, []string{`run.toml:2: mesh.dead_min = "16s": mesh.dead_min = 16s must be at most mesh.dead_after = 15s`}},
		{"listen", "[mesh]\nlisten = []", nil, []string{`run.toml:2: mesh.listen = []: must hold at least one address, such as "/ip4/0.0.0.0/tcp/0"`}},
		{"listen form", "[mesh]\nlisten = [\"1.2.3.4:5\"]", nil, []string{`run.toml:2: mesh.listen = ["1.2.3.4:5"]: item 1, "1.2.3.4:5", must be a multiaddress such as /ip4/192.0.2.1/tcp/4001`}},
		{"list item", "[mesh]\nlisten = [7]", nil, []string{"run.toml:2: mesh.listen = [...]: item 1 has type whole number; allowed: text"}},
		{"join", "[mesh]\njoin = [\"/ip4/192.0.2.1/tcp/1\"]", nil, []string{`run.toml:2: mesh.join = ["/ip4/192.0.2.1/tcp/1"]: item 1, "/ip4/192.0.2.1/tcp/1", must end in /p2p/ and the ID of the peer`}},
		{"metrics", "[metrics]\nlisten = \"localhost\"", nil, []string{`run.toml:2: metrics.listen = "localhost": must be host:port with a port from 0 to 65535, such as "127.0.0.1:9090", or empty`}},
		{"name", "[run]\nname = \"../x\"", nil, []string{`run.toml:2: run.name = "../x": must be 1 to 64 letters, digits, dots, dashes or underscores, and not start with a dot`}},
		{"control character", "[run]\nname = \"a\\u0007\"", nil, []string{"run.toml:2: run.name = \"a\a\": must be UTF-8 text without control characters"}},
		{"source", "[data]\nsource = \"\"", nil, []string{`run.toml:2: data.source = "": must be a folder, a file, or go for the source of Go's standard library`}},
		{"all at once, in file order", "[sync]\nnope = 1\n[run]\nrounds = 0\nworkers = \"x\"\n[model]\nvocab = 3", []string{"inner.lr=-1"}, []string{
			"run.toml:2: sync.nope = 1: unknown key; `loco config show` lists them all",
			"run.toml:4: run.rounds = 0: must be 1 to 10000000",
			`run.toml:5: run.workers = "x": has type text; allowed: whole number, 1 to 65536`,
			"run.toml:7: model.vocab = 3: data.tokenizer = bytes needs at least 256",
			"--set: inner.lr = -1.0: must be above 0 and at most 10"}},
	} {
		_, err := Parse("run.toml", []byte(tc.file), tc.sets)
		var problems *Error
		if !errors.As(err, &problems) {
			t.Errorf("%s: error %v, want *Error", tc.name, err)
			continue
		}
		if got, want := err.Error(), strings.Join(tc.want, "\n"); got != want {
			t.Errorf("%s:\n got %s\nwant %s", tc.name, got, want)
		}
	}
}

func TestDuplicateKeyNamesItsLine(t *testing.T) {
	_, err := Parse("run.toml", []byte("[run]\nrounds = 1\nrounds = 2\n"), nil)
	if err == nil || !strings.HasPrefix(err.Error(), "run.toml:3:") {
		t.Errorf("got %v", err)
	}
}

func TestValidateOfACodeMadeConfig(t *testing.T) {
	c := Default()
	c.Model.Width, c.Model.Heads, c.Inner.LR = 96, 7, -1
	want := "inner.lr = -1.0: must be above 0 and at most 10\nmodel.heads = 7: model.heads = 7 must divide model.width = 96"
	if err := c.Validate(); err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
	var zero Config
	if err := zero.Validate(); err == nil { // must not divide by zero either
		t.Error("the zero value is valid")
	}
}

func TestIdentity(t *testing.T) {
	base := Default()
	id := base.RunID("data.digest=aa")
	if len(id) != 64 || id != base.RunID("data.digest=aa") || id == base.RunID() || id == base.RunID("data.digest=bb") {
		t.Error("RunID is not a function of the configuration and the extra lines")
	}
	if base.RunID("a=1", "b=2") != base.RunID("b=2", "a=1") {
		t.Error("the order of the extra lines matters")
	}
	same := []string{"run.name=x", "run.eval_every=3", "run.report_every=9", "run.restarts=1", "model.checkpointing=true", "data.source=/tmp", "inner.threads=3",
		"inner.micro_batch=4", "inner.devices=0,1", "inner.threads=2", "sync.deadline=2m", "sync.grace=1s", "sync.grace_min=0s", "mesh.mdns=true", "checkpoint.keep=9", "metrics.listen=:1"}
	differ := []string{"run.seed=2", "run.rounds=16", "run.workers=5", "model.layers=7", "data.heldout=0.1", "data.max_bytes=9", "inner.lr=0.1", "inner.batch=16",
		"sync.strategy=ddp", "sync.codec=bf16", "sync.inner_steps=21", "sync.inner_time=1m", "sync.slow_cycle=4", "sync.max_lag=3", "sync.gamma=0.6"}
	for _, set := range append(same, differ...) {
		c, err := Load("", []string{set})
		if err != nil {
			t.Fatal(err)
		}
		if equal := c.RunID("data.digest=aa") == id; equal != (indexOf(same, set) >= 0) {
			t.Errorf("%s: same identity %v", set, equal)
		}
	}
	other, err := Load("", []string{"inner.lr=0.1"})
	if err != nil {
		t.Fatal(err)
	}
	a, b := Differences(base.Canonical(), other.Canonical())
	if !reflect.DeepEqual(a, []string{fmt.Sprintf("inner.lr=%g", base.Inner.LR)}) || !reflect.DeepEqual(b, []string{"inner.lr=0.1"}) {
		t.Errorf("Differences: %v %v", a, b)
	}
}

func indexOf(list []string, s string) int {
	for i, x := range list {
		if x == s {
			return i
		}
	}
	return -1
}

func TestDurationText(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", time.Second: "1s", time.Minute: "1m", 90 * time.Second: "1m30s", time.Hour: "1h", time.Hour + time.Minute: "1h1m",
		time.Hour + time.Second: "1h0m1s", 10 * time.Minute: "10m", 250 * time.Millisecond: "250ms", 1: "1ns", 168 * time.Hour: "168h",
	} {
		got := Duration(d).String()
		back, err := time.ParseDuration(got)
		if got != want || err != nil || back != d {
			t.Errorf("%v: %q (back %v, %v), want %q", d, got, back, err, want)
		}
	}
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte("preset = \"home-60m\"\n[sync]\nstrategy = \"noloco\"\ngamma = 0.5"), "inner.lr=0.1")
	f.Add([]byte("[[run]]\nrounds=1\n[[run]]\nrounds=2"), "mesh.join=[\"/ip4\"]")
	f.Add([]byte("run.\"a.b\".c = {x = [1, {y = 2}]}\nrun.rounds = 0x10"), "run.name=\"\xff\"")
	f.Add([]byte("[mesh]\njoin = [\"/dns4/\\\"q\\\\/p2p/é\"]\ndead_after = \"1h0m1.5s\""), "=")
	f.Fuzz(func(t *testing.T, file []byte, set string) {
		cfg, err := Parse("f", file, []string{set})
		if err != nil {
			var problems *Error
			if !errors.As(err, &problems) || len(problems.Problems) == 0 || err.Error() == "" {
				t.Fatalf("%T: %v", err, err)
			}
			return
		}
		var out bytes.Buffer
		if err := cfg.Encode(&out); err != nil {
			t.Fatal(err)
		}
		back, err := Parse("g", out.Bytes(), nil)
		if err != nil || !reflect.DeepEqual(cfg, back) {
			t.Fatalf("encoded file loads as\n%+v (%v)\nwant\n%+v\n%s", back, err, cfg, out.String())
		}
	})
}

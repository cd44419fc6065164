package main

import (
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"loco/trainer"
	"loco/worker/config"
	"loco/worker/process"
)

func configWith(t *testing.T, sets ...string) *config.Config {
	t.Helper()
	cfg, err := config.Load("", sets)
	if err != nil {
		t.Fatal(err)
	}
	return &cfg
}

func TestPlanRun(t *testing.T) {
	// tiny's round is 20 steps of 4 x 1024 tokens, and a quarter of an evaluation.
	for _, tc := range []struct {
		name    string
		sets    []string
		p       pace
		rounds  int
		seconds float64
		rate    float64
		fits    int
	}{
		{"two minutes", nil, pace{step: 0.025, exchange: 0.1, eval: 0.4}, 170, 170*0.7 + 0.4, 81920 / 0.7, 170},
		{"an evaluation at the end", nil, pace{step: 0.025, exchange: 0, eval: 20}, 18 + 2, 20*5.5 + 20, 81920 / 5.5, 18},
		{"no evaluations but that", []string{"run.eval_every=0"}, pace{step: 0.025, exchange: 0.1, eval: 30}, 150, 120, 81920 / 0.6, 150},
		{"a slow machine", nil, pace{step: 0.6, exchange: 0.1, eval: 0}, 20, 242, 81920 / 12.1, 9},
		{"a machine without time", []string{"run.time=1ms"}, pace{step: 1, eval: 4}, 20, 424, 81920 / 21.0, 0},
		{"ddp exchanges at every step", []string{"sync.strategy=ddp"}, pace{step: 0.025, exchange: 0.025}, 120, 120, 81920, 120},
		{"rounds with a time", []string{"sync.inner_time=1s", "run.eval_every=0"}, pace{step: 0.1, exchange: 0.25}, 96, 120, 4 * 10 * 1024 / 1.25, 96},
		{"rounds with a time for more steps than are allowed", []string{"sync.inner_time=4s", "run.eval_every=0"}, pace{step: 0.1}, 30, 120, 20480, 30},
		{"the warmup has room", []string{"inner.warmup=4001"}, pace{step: 0.05}, 201, 201, 81920, 120},
		{"and the tail of wsd", []string{"inner.warmup=2000", "inner.schedule=wsd", "inner.decay=2000"}, pace{step: 0.05}, 200, 200, 81920, 120},
		{"the tail of another schedule", []string{"inner.warmup=2000", "inner.decay=2000"}, pace{step: 0.05}, 120, 120, 81920, 120},
		{"a week on a supercomputer", []string{"run.time=168h", "run.eval_every=0"}, pace{step: 1e-6}, 10000000, 200, 4096e6, 10000000},
		{"the most that the configuration allows", []string{"run.time=168h", "run.eval_every=0", "run.workers=65536", "inner.batch=16384"}, pace{step: 1e-6}, 363797, 7.27594, 65536 * 20 * 16384 * 128 / 20e-6, 363797},
	} {
		cfg := configWith(t, tc.sets...)
		got := planRun(cfg, tc.p)
		if got.rounds != tc.rounds || got.fits != tc.fits || !(math.Abs(got.seconds-tc.seconds) <= 1e-4*tc.seconds) {
			t.Errorf("%s: %+v, want %d rounds in %g s, %d fit", tc.name, got, tc.rounds, tc.seconds, tc.fits)
		}
		if !(math.Abs(got.rate-tc.rate) <= 1e-6*tc.rate) {
			t.Errorf("%s: %g tok/s, want %g", tc.name, got.rate, tc.rate)
		}
		if err := cfg.SetRounds(got.rounds); err != nil {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}

func TestPlanInWords(t *testing.T) {
	cfg := configWith(t)
	for _, tc := range []struct {
		p    plan
		want string
	}{
		{plan{180, 121, 128100, 180}, "about 2 minutes: 180 rounds of 20 steps at 128k tok/s measured"},
		{plan{20, 900, 2000, 3}, "about 15 minutes: 20 rounds of 20 steps at 2k tok/s measured; run.time = 2m has room for 3, too few to learn from"},
	} {
		if got := tc.p.text(cfg); got != tc.want {
			t.Errorf("%q, want %q", got, tc.want)
		}
	}
	for seconds, want := range map[float64]string{
		0.1: "about 1 second", 44.6: "about 45 seconds", 58: "about 58 seconds", 89: "about 89 seconds", 95: "about 2 minutes",
		5300: "about 88 minutes", 5401: "about 2 hours", 100 * 3600: "about 4 days",
	} {
		if got := about(seconds); got != want {
			t.Errorf("%g s: %q, want %q", seconds, got, want)
		}
	}
}

// events gives a tally what a probe of tiny with two workers would see: steps of 0.1 s, an
// exchange of 0.05 s and an evaluation of 0.3 s.
func probeEvents(t *timings, rounds uint64) (at time.Duration) {
	began := time.Unix(1000, 0)
	for round := uint64(1); round <= rounds; round++ {
		for range 4 {
			at += 100 * time.Millisecond
			for k := range 2 {
				seconds := 0.1
				if round == 1 {
					seconds = 0.1 + 5*float64(k) // a first step may take anything
				}
				t.add(&trainer.StepEvent{Worker: k, Seconds: seconds}, began.Add(at))
				if round == 1 {
					t.steps[k] = 0
				}
			}
		}
		at += 50 * time.Millisecond
		for k := range 2 {
			t.add(&trainer.RoundEvent{Worker: k, Round: round, Steps: 4}, began.Add(at))
		}
		if round%3 == 0 {
			at += 300 * time.Millisecond
			t.add(&trainer.EvalEvent{Worker: 1, Round: round, Seconds: 0.3}, began.Add(at))
			t.add(&trainer.EvalEvent{Worker: 0, Round: round, Seconds: 0.2}, began.Add(at))
		}
	}
	return at
}

func TestTimingsOfAProbe(t *testing.T) {
	cfg := probeConfig(configWith(t, "run.workers=2"))
	got := &timings{workers: 2, steps: map[int]int{}}
	probeEvents(got, 4)
	if got.enough() {
		t.Error("three timed rounds are enough")
	}
	got = &timings{workers: 2, steps: map[int]int{}}
	probeEvents(got, 5)
	if !got.enough() {
		t.Error("four timed rounds and an evaluation are not enough")
	}
	p := got.pace(&cfg)
	for _, v := range []struct {
		name      string
		got, want float64
	}{{"step", p.step, 0.1}, {"exchange", p.exchange, 0.05}, {"evaluation", p.eval, 0.3}} {
		if !(math.Abs(v.got-v.want) <= 1e-9) {
			t.Errorf("%s: %g s, want %g", v.name, v.got, v.want)
		}
	}
}

// A machine on which a step takes seconds is judged by its steps.
func TestTimingsOfASlowProbe(t *testing.T) {
	cfg := probeConfig(configWith(t, "run.workers=2"))
	got := &timings{workers: 2, steps: map[int]int{}}
	began := time.Unix(1000, 0)
	for i, e := range []*trainer.StepEvent{{Worker: 0, Seconds: 9}, {Worker: 0, Seconds: 3}, {Worker: 0, Seconds: 3}} {
		got.add(e, began.Add(time.Duration(i)*5*time.Second))
		if got.enough() {
			t.Fatalf("enough after %d steps of one worker", i+1)
		}
	}
	got.add(&trainer.StepEvent{Worker: 1, Seconds: 9}, began.Add(probeLong))
	if !got.enough() {
		t.Error("a step of every worker is not enough for a slow machine")
	}
	p := got.pace(&cfg)
	if want := 3 * 32768.0 / 1024 / 3; p.step != 3 || p.exchange != 0 || !(math.Abs(p.eval-want) <= 1e-9) {
		t.Errorf("%+v, want steps of 3 s and an evaluation of %g s", p, want)
	}
}

// What a run is, its length apart, is what its probe measures.
func TestProbeConfig(t *testing.T) {
	cfg := configWith(t, "run.workers=3", "inner.threads=2", "inner.warmup=100", "mesh.mdns=true", "mesh.join=/ip4/192.0.2.1/tcp/1/p2p/A", "run.restarts=2", "run.eval_every=0", "metrics.listen=127.0.0.1:9090",
		"checkpoint.dir=/elsewhere", "sync.strategy=noloco", "sync.inner_time=1m", "sync.inner_steps=3")
	p := probeConfig(cfg)
	if err := p.Validate(); err != nil {
		t.Fatal(err)
	}
	if p.Model != cfg.Model || p.Data != cfg.Data || p.Run.Workers != 3 || p.Inner.Threads != 2 || p.Inner.Batch != cfg.Inner.Batch ||
		p.Sync.Strategy != "noloco" || p.Sync.InnerSteps != 3 || p.Run.EvalTokens != cfg.Run.EvalTokens {
		t.Errorf("a probe of another run: %+v", p)
	}
	if p.Run.Rounds < 1000 || p.Run.EvalEvery != probeEval || p.Run.ReportEvery != 1 || p.Run.Restarts != 0 || p.Inner.Warmup != 0 || p.Inner.Decay != 0 || p.Checkpoint.Every != 0 {
		t.Errorf("a probe that shows no pace: %+v", p)
	}
	if p.Run.Time != 0 || p.Mesh.Join != nil || p.Sync.InnerTime != 0 || p.Mesh.MDNS || p.Checkpoint.Dir != "" || p.Checkpoint.Tmpfs != "" || p.Metrics.Listen != "" {
		t.Errorf("a probe meddles with what is not its own: %+v", p)
	}
}

// A folder has one plan: the same command goes on with the rounds that stand in it.
func TestAPlannedRunIsNotPlannedAgain(t *testing.T) {
	dir := t.TempDir()
	l := &localRun{cfg: configWith(t), dir: dir}
	if _, err := l.prepare(); err != nil || l.cfg.Run.Time == 0 {
		t.Fatalf("an empty folder says how long the run is: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, process.ConfigFile)); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("the folder has a configuration before the run has a length: %v", err)
	}
	if err := l.cfg.SetRounds(137); err != nil {
		t.Fatal(err)
	}
	if _, err := l.prepare(); err != nil {
		t.Fatal(err)
	}
	for _, sets := range [][]string{nil, {"run.time=5m"}, {"run.rounds=137"}, {"run.eval_every=1"}} {
		again := &localRun{cfg: configWith(t, sets...), dir: dir}
		if _, err := again.prepare(); err != nil {
			t.Fatalf("%v: %v", sets, err)
		}
		if again.cfg.Run.Rounds != 137 || again.cfg.Run.Time != 0 || again.cfg.RunID() != l.cfg.RunID() {
			t.Errorf("%v: %d rounds, run.time %v", sets, again.cfg.Run.Rounds, again.cfg.Run.Time)
		}
	}
	written, err := config.Load(filepath.Join(dir, process.ConfigFile), nil)
	if err != nil || written.Run.Rounds != 137 || written.Run.Time != 0 || written.TotalSteps() != 137*20 {
		t.Errorf("written: %+v, %v", written.Run, err)
	}
	for want, sets := range map[string][]string{"run.rounds=137": {"run.rounds=180"}, "run.seed=1": {"run.seed=2"}} {
		other := &localRun{cfg: configWith(t, sets...), dir: dir}
		if _, err := other.prepare(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v in a folder of another run: %v", sets, err)
		}
	}
}

// A configuration that somebody wrote into the folder without planning is no plan.
func TestAFolderWithAnOpenConfiguration(t *testing.T) {
	dir := t.TempDir()
	if err := process.ClaimDir(dir, configWith(t), true); err != nil {
		t.Fatal(err)
	}
	l := &localRun{cfg: configWith(t), dir: dir}
	if _, err := l.prepare(); err != nil || l.cfg.Run.Time == 0 {
		t.Fatal(err)
	}
	if err := l.cfg.SetRounds(50); err != nil {
		t.Fatal(err)
	}
	if err := process.ClaimDir(dir, l.cfg, true); err != nil {
		t.Error(err)
	}
	if err := process.ClaimDir(dir, configWith(t, "run.rounds=51"), true); err == nil {
		t.Error("a plan can be replaced")
	}
}

// The folder of a run without run.rounds is known before its rounds are, and is not that of
// the same run with them.
func TestDefaultDir(t *testing.T) {
	dirs := map[string]string{}
	for _, sets := range []string{"run.time=2m", "run.time=3m", "run.rounds=180", "run.rounds=181"} {
		dir := defaultDir(configWith(t, sets))
		if other, ok := dirs[dir]; ok {
			t.Errorf("%s and %s share %s", sets, other, dir)
		}
		dirs[dir] = sets
	}
	explicit := configWith(t, "run.rounds=180")
	if got, want := defaultDir(explicit), filepath.Join("runs", "tiny-"+explicit.RunID()[:8]); got != want {
		t.Errorf("a run with rounds is in %s, not in %s", got, want)
	}
	if defaultDir(configWith(t)) != defaultDir(configWith(t, "run.time=2m")) {
		t.Error("the default time and the same time differ")
	}
}

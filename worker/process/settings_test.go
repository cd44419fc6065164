package process

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"loco/checkpoint"
	"loco/mesh/p2p"
	"loco/optim"
	"loco/trainer"
	"loco/trainer/data"
	"loco/trainer/model"
	"loco/trainer/strategy"
	"loco/worker"
	"loco/worker/config"
)

// acts says where a key acts, and what is there when it is set to a value that is not its default.
type acts struct {
	set, want string
	at        func(s *Spec) any
}

func inModel(at func(model.Config) any) func(*Spec) any {
	return func(s *Spec) any { return at(s.model) }
}
func inData(at func(data.Options) any) func(*Spec) any {
	return func(s *Spec) any { return at(DataOptions(s.cfg, "")) }
}
func inAdamW(at func(optim.AdamW) any) func(*Spec) any {
	return func(s *Spec) any { return at(s.adamw()) }
}
func inWorker(at func(worker.Config) any) func(*Spec) any {
	return func(s *Spec) any { return at(s.workerConfig(0, 0)) }
}
func inTrainer(at func(trainer.Config) any) func(*Spec) any {
	return func(s *Spec) any { return at(s.workerConfig(0, 0).Trainer) }
}
func inOuter(at func(strategy.Options) any) func(*Spec) any {
	return func(s *Spec) any { return at(s.workerConfig(0, 0).Trainer.Options) }
}
func inMesh(at func(p2p.Config) any) func(*Spec) any {
	return func(s *Spec) any {
		p := newProcess(s, Options{})
		p.seat = &seat{number: 0, dir: s.workerDir(0)}
		return at(p.meshConfig())
	}
}
func inStage(at func([]checkpoint.Stage) any) func(*Spec) any {
	return func(s *Spec) any { return at(s.checkpointConfig(3).Stages) }
}
func inSampler(at func(data.SamplerConfig) any) func(*Spec) any {
	return func(s *Spec) any { return at(s.samplerConfig(3)) }
}

// What each key is set to is where it acts. Durations that two fields could take are different.
var actsAt = map[string]acts{
	"run.seed":            {"7", "7 7", func(s *Spec) any { return fmt.Sprint(s.samplerConfig(0).Seed, s.gossipConfig().Seed) }},
	"run.workers":         {"3", "3 3", func(s *Spec) any { return fmt.Sprint(s.samplerConfig(0).Workers, s.workerConfig(0, 0).Workers) }},
	"run.rounds":          {"77", "77 1540", func(s *Spec) any { return fmt.Sprint(s.workerConfig(0, 0).Trainer.Rounds, s.adamw().Schedule.Total) }},
	"run.eval_every":      {"7", "7", inTrainer(func(c trainer.Config) any { return c.EvalEvery })},
	"model.layers":        {"5", "5", inModel(func(c model.Config) any { return c.Layers })},
	"model.width":         {"192", "192", inModel(func(c model.Config) any { return c.Width })},
	"model.heads":         {"6", "6", inModel(func(c model.Config) any { return c.Heads })},
	"model.kv_heads":      {"3", "3", inModel(func(c model.Config) any { return c.KVHeads })},
	"model.ffn":           {"77", "77", inModel(func(c model.Config) any { return c.FFN })},
	"model.context":       {"64", "64 64", func(s *Spec) any { return fmt.Sprint(s.model.Context, s.samplerConfig(0).Context) }},
	"model.vocab":         {"300", "300", inModel(func(c model.Config) any { return c.Vocab })},
	"model.rope_theta":    {"77", "77", inModel(func(c model.Config) any { return c.RopeTheta })},
	"model.norm_eps":      {"0.007", "0.007", inModel(func(c model.Config) any { return c.NormEps })},
	"model.init_std":      {"0.7", "0.7", inModel(func(c model.Config) any { return c.InitStd })},
	"model.tied":          {"false", "false", inModel(func(c model.Config) any { return c.Tied })},
	"model.checkpointing": {"true", "true", inModel(func(c model.Config) any { return c.Checkpoint })},
	"data.source":         {"x", "x", inData(func(c data.Options) any { return c.Source })},
	"data.heldout":        {"0.3", "0.3", inData(func(c data.Options) any { return c.Heldout })},
	"data.max_bytes":      {"777", "777", inData(func(c data.Options) any { return c.MaxBytes })},
	"inner.lr":            {"0.7", "0.7 true", func(s *Spec) any { return fmt.Sprint(s.adamw().LR, s.workerConfig(0, 0).Trainer.InnerLR(20, 20) > 0.6) }},
	"inner.min_lr_ratio":  {"0.7", "0.7", inAdamW(func(c optim.AdamW) any { return c.Schedule.MinRatio })},
	"inner.beta1":         {"0.7", "0.7", inAdamW(func(c optim.AdamW) any { return c.Beta1 })},
	"inner.beta2":         {"0.7", "0.7", inAdamW(func(c optim.AdamW) any { return c.Beta2 })},
	"inner.eps":           {"0.7", "0.7", inAdamW(func(c optim.AdamW) any { return c.Eps })},
	"inner.weight_decay":  {"0.7", "0.7", inAdamW(func(c optim.AdamW) any { return c.WeightDecay })},
	"inner.clip":          {"0.7", "0.7", inAdamW(func(c optim.AdamW) any { return c.Clip })},
	"inner.schedule":      {"linear", "linear", inAdamW(func(c optim.AdamW) any { return c.Schedule.Kind })},
	"inner.warmup":        {"7", "7", inAdamW(func(c optim.AdamW) any { return c.Schedule.Warmup })},
	"inner.decay":         {"7", "7", inAdamW(func(c optim.AdamW) any { return c.Schedule.Decay })},
	"inner.batch":         {"12", "12", inSampler(func(c data.SamplerConfig) any { return c.Batch })},
	"sync.strategy":       {"noloco", "noloco", inTrainer(func(c trainer.Config) any { return c.Strategy })},
	"sync.codec":          {"bf16", "bf16", inWorker(func(c worker.Config) any { return c.Gossip.Codec.Name() })},
	"sync.state_codec":    {"bf16", "bf16", inWorker(func(c worker.Config) any { return c.Gossip.StateCodec.Name() })},
	"sync.inner_steps":    {"7", "7", inTrainer(func(c trainer.Config) any { return c.InnerSteps })},
	"sync.inner_time":     {"7s", "7s", inTrainer(func(c trainer.Config) any { return c.InnerTime })},
	"sync.outer_lr":       {"0.77", "0.77", inOuter(func(o strategy.Options) any { return o.OuterLR })},
	"sync.outer_momentum": {"0.77", "0.77", inOuter(func(o strategy.Options) any { return o.OuterMomentum })},
	"sync.beta":           {"0.77", "0.77", inOuter(func(o strategy.Options) any { return o.Beta })},
	"sync.gamma":          {"0.77", "0.77", inOuter(func(o strategy.Options) any { return o.Gamma })},
	"sync.slow_cycle": {"7", "7 7", func(s *Spec) any {
		c := s.workerConfig(0, 0)
		return fmt.Sprint(c.Trainer.Options.SlowCycle, c.Gossip.SlowCycle)
	}},
	"sync.deadline":           {"77s", "1m17s", inWorker(func(c worker.Config) any { return c.Gossip.Deadline })},
	"sync.grace":              {"7s", "7s", inWorker(func(c worker.Config) any { return c.Gossip.Grace })},
	"sync.grace_min":          {"3s", "3s", inWorker(func(c worker.Config) any { return c.Gossip.GraceMin })},
	"sync.quorum":             {"majority", "4", inWorker(func(c worker.Config) any { return c.Gossip.Quorum })},
	"sync.max_lag":            {"7", "7", inWorker(func(c worker.Config) any { return c.Gossip.MaxLag })},
	"sync.join_moments":       {"fetch", "true", inWorker(func(c worker.Config) any { return c.FetchMoments })},
	"sync.join_warmup":        {"7", "7", inAdamW(func(c optim.AdamW) any { return c.Rewarm })},
	"mesh.listen":             {"/ip4/127.0.0.1/tcp/7", "[/ip4/127.0.0.1/tcp/7]", inMesh(func(c p2p.Config) any { return c.Listen })},
	"mesh.mdns":               {"true", "true", inMesh(func(c p2p.Config) any { return c.MDNS })},
	"mesh.heartbeat":          {"3s", "3s 3s", func(s *Spec) any { return fmt.Sprint(meshTimes(s.cfg.Mesh).Heartbeat, s.workerConfig(0, 0).Heartbeat) }},
	"mesh.probe_every":        {"7s", "7s", inMesh(func(c p2p.Config) any { return c.ProbeEvery })},
	"mesh.suspect_min":        {"4s", "4s", inMesh(func(c p2p.Config) any { return c.SuspectMin })},
	"mesh.suspect_after":      {"7s", "7s", inMesh(func(c p2p.Config) any { return c.SuspectAfter })},
	"mesh.dead_min":           {"7s", "7s", inMesh(func(c p2p.Config) any { return c.DeadMin })},
	"mesh.dead_after":         {"77s", "1m17s", inMesh(func(c p2p.Config) any { return c.DeadAfter })},
	"mesh.dead_after_refused": {"7s", "7s", inMesh(func(c p2p.Config) any { return c.DeadAfterRefused })},
	"mesh.forget":             {"77s", "1m17s", inMesh(func(c p2p.Config) any { return c.Forget })},
	"mesh.dial_timeout":       {"7s", "7s", inMesh(func(c p2p.Config) any { return c.DialTimeout })},
	"mesh.redial_max":         {"7s", "7s", inMesh(func(c p2p.Config) any { return c.RedialMax })},
	"mesh.join_timeout": {"7s", "7s 7s 7s", func(s *Spec) any {
		c := s.workerConfig(0, 0)
		return fmt.Sprint(meshTimes(s.cfg.Mesh).JoinTimeout, c.JoinTimeout, c.Gossip.StateHold)
	}},
	"mesh.state_upload":     {"777", "777", inWorker(func(c worker.Config) any { return c.Gossip.StateUpload })},
	"mesh.replay_rounds":    {"7", "7", inWorker(func(c worker.Config) any { return c.Gossip.ReplayRounds })},
	"mesh.replay_bytes":     {"777", "777", inWorker(func(c worker.Config) any { return c.Gossip.ReplayBytes })},
	"checkpoint.dir":        {"/x", "/x/worker-3", func(s *Spec) any { return s.checkpointDir(3) }},
	"checkpoint.every":      {"7", "7", inTrainer(func(c trainer.Config) any { return c.SaveEvery })},
	"checkpoint.keep":       {"7", "7", inStage(func(s []checkpoint.Stage) any { return s[len(s)-1].Keep })},
	"checkpoint.keep_every": {"7", "7", inStage(func(s []checkpoint.Stage) any { return s[len(s)-1].KeepEvery })},
	"checkpoint.tmpfs":      {"", "1", inStage(func(s []checkpoint.Stage) any { return len(s) })},
}

// Keys whose use another test holds.
var heldElsewhere = []string{
	"run.name", "metrics.listen", // TestMetricsAreServed
	"run.report_every", "run.eval_tokens", // TestProcessesTrain
	"run.time", "run.restarts", // of the command
	"data.tokenizer",                                                                         // has one value
	"inner.micro_batch", "inner.device", "inner.devices", "inner.threads", "inner.precision", // TestCompute
	"mesh.join", // of the command, which adds --join to it
}

// Every key of the configuration reaches where it acts, and nothing else of the same table does.
func TestEveryKeyActs(t *testing.T) {
	for _, k := range config.Keys() {
		a, ok := actsAt[k.Name]
		if !ok {
			if !slices.Contains(heldElsewhere, k.Name) {
				t.Errorf("%s: no test says where it acts", k.Name)
			}
			continue
		}
		plain, set := loadSpec(t), loadSpec(t, append(beside(k.Name), k.Name+"="+a.set)...)
		if got := fmt.Sprint(a.at(set)); got != a.want {
			t.Errorf("%s = %s: where it acts is %s, want %s", k.Name, a.set, got, a.want)
		}
		if got := fmt.Sprint(a.at(plain)); got == a.want {
			t.Errorf("%s: the test sets it to its default, %s", k.Name, got)
		}
		for name, other := range actsAt {
			if table, _, _ := strings.Cut(name, "."); name == k.Name || table != k.Table || slices.ContainsFunc(beside(k.Name), func(s string) bool { return strings.HasPrefix(s, name+"=") }) {
				continue
			}
			if before, after := fmt.Sprint(other.at(plain)), fmt.Sprint(other.at(set)); before != after && !follows(k.Name, name) {
				t.Errorf("%s = %s changes what %s is for, from %s to %s", k.Name, a.set, name, before, after)
			}
		}
	}
	if len(actsAt)+len(heldElsewhere) != len(config.Keys()) {
		t.Errorf("%d keys are held, and there are %d", len(actsAt)+len(heldElsewhere), len(config.Keys()))
	}
}

// beside is what has to be set with a key.
func beside(key string) []string {
	switch key {
	case "model.heads", "model.kv_heads":
		return []string{"model.width=96"}
	}
	return nil
}

// follows says that one key's value depends on another.
func follows(key, other string) bool {
	switch {
	case key == "sync.strategy", key == "run.workers" && other == "run.workers":
		return true
	case key == "sync.inner_steps" && other == "run.rounds", key == "run.workers" && other == "sync.quorum":
		return true
	}
	return false
}

func loadSpec(t *testing.T, sets ...string) *Spec {
	t.Helper()
	cfg, err := config.Load("", sets)
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSpec(&cfg, "/run")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// β = γ lets θ cross in place of Δ, but only in an exact codec.
func TestFastOnly(t *testing.T) {
	for sets, want := range map[string]bool{
		"sync.codec=fp32":                true, // β = γ by default
		"sync.codec=int8":                false,
		"sync.codec=fp32 sync.beta=0.6":  false,
		"sync.codec=fp32 sync.gamma=0.6": false,
	} {
		s := loadSpec(t, append([]string{"sync.strategy=noloco"}, strings.Fields(sets)...)...)
		if got := s.workerConfig(0, 0).Trainer.Options.FastOnly; got != want {
			t.Errorf("%s: %v, want %v", sets, got, want)
		}
	}
	s := loadSpec(t)
	if c := s.workerConfig(2, 5); c.Number != 2 || c.Trainer.StopAfter != 5 || c.Gossip.Deadlines != deadlinesMax || c.Gossip.Detection != meshTimes(s.cfg.Mesh).Detection() || c.Gossip.Quorum != 0 {
		t.Errorf("%+v", c)
	}
	if got := s.checkpointDir(2); got != "/run/checkpoints/worker-2" {
		t.Error(got)
	}
}

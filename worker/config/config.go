// Package config is the configuration of a run: its keys, their bounds, the
// presets, and the TOML file that holds them.
//
// One source of truth: each key is a field of [Config] or of one of its tables, and
// the field's tag holds its TOML name, its documentation and its bounds. `loco config
// show`, validation and the error messages all read that tag.
//
// Layers, the later one wins: preset, file, --set. A file may start with
// `preset = "home-60m"`; without that line it builds on [Default].
//
// # How long a run is
//
// Either run.rounds or run.time says it. A layer that sets run.rounds makes run.time 0,
// also where it sets both. While run.time is above 0, run.rounds has the default's value
// and is no more than a stand-in: `loco run` measures, and calls [Config.SetRounds].
//
// # Keys that follow the strategy
//
// sync.codec, sync.outer_lr, sync.outer_momentum, sync.beta and sync.gamma have
// defaults that depend on sync.strategy. When a layer changes the strategy of the
// layer below it, every one of them that still has the old strategy's default, or the
// value that the preset tuned for its own strategy, takes the new one's default; a value
// of the user's own stays, and so does a preset's codec. So `--set sync.strategy=noloco` on any
// file gives NoLoCo as published. In the same way, changing the strategy to "alone"
// makes run.workers 1.
package config

import (
	"loco/gossip"
	"loco/mesh/swim"
	"loco/trainer/strategy"
)

// Config is a whole run. The zero value is not valid: start from [Default].
type Config struct {
	Run        Run        `toml:"run" doc:"The run as a whole."`
	Model      Model      `toml:"model" doc:"The Llama."`
	Data       Data       `toml:"data" doc:"What it reads."`
	Inner      Inner      `toml:"inner" doc:"The inner loop: AdamW on one worker, between two exchanges."`
	Sync       Sync       `toml:"sync" doc:"The outer loop: what the workers exchange, and how."`
	Mesh       Mesh       `toml:"mesh" doc:"How the workers find and watch each other."`
	Checkpoint Checkpoint `toml:"checkpoint" doc:"What survives a stop."`
	Metrics    Metrics    `toml:"metrics" doc:"What an operator sees."`
}

// Run is the table [run].
type Run struct {
	Name        string   `toml:"name" id:"-" doc:"Name of the run in logs, charts and links: 1 to 64 letters, digits, dots, dashes or underscores."`
	Seed        uint64   `toml:"seed" doc:"Seed of the initial weights, of the order of the data and of NoLoCo's pairs. Two runs with the same seed, group and data are equal to the bit on CPUs."`
	Workers     int      `toml:"workers" range:"1..65536" doc:"Workers that the run is planned for. Data is split by it, and loco run starts as many. With sync.strategy = alone it is 1."`
	Rounds      int      `toml:"rounds" range:"1..10000000" doc:"Outer steps. Where it is set, run.time does not count. The run has rounds x sync.inner_steps inner steps whatever the strategy, so strategies compare at equal tokens; with sync.inner_time that is the most a worker may take."`
	Time        Duration `toml:"time" id:"-" range:"0s..168h" doc:"How long loco run plans to train: it measures its workers for some seconds, chooses run.rounds, and writes that into the run's config.toml, so the same folder is the same run. 0: run.rounds decides. So it does where it is set in the same layer or a later one; the layers are preset, file and --set. loco worker and loco compare never measure: they take run.rounds, 180 where it is not set."`
	EvalEvery   int      `toml:"eval_every" id:"-" range:"0..10000000" doc:"Rounds between two evaluations on held-out data. 0 evaluates at the end only."`
	EvalTokens  int      `toml:"eval_tokens" id:"-" range:"1..1000000000" doc:"Held-out tokens of one evaluation, the same ones each time. More costs time and lowers the noise."`
	ReportEvery int      `toml:"report_every" id:"-" range:"1..1000000" doc:"Inner steps between two progress reports."`
	Restarts    int      `toml:"restarts" id:"-" range:"0..1000000" doc:"Times that loco run starts a worker again after it crashed. 0 leaves it down."`
}

// Model is the table [model].
type Model struct {
	Layers        int     `toml:"layers" range:"1..1024" doc:"Transformer blocks."`
	Width         int     `toml:"width" range:"2..131072" doc:"Values in a token's vector. A multiple of heads."`
	Heads         int     `toml:"heads" range:"1..4096" doc:"Query heads; width / heads, the head's size, is even because of RoPE."`
	KVHeads       int     `toml:"kv_heads" range:"1..4096" doc:"Key and value heads, a divisor of heads. Fewer than heads is grouped-query attention: less memory for keys and values."`
	FFN           int     `toml:"ffn" range:"1..1048576" doc:"Width of the feed-forward layer. SwiGLU has three matrices, so 8/3 x width costs what 4 x width does with two."`
	Context       int     `toml:"context" range:"2..1048576" doc:"Tokens in a sequence. The time of attention grows with its square."`
	Vocab         int     `toml:"vocab" range:"2..4194304" doc:"Rows of the embedding. With data.tokenizer = bytes it is at least 256; of a larger one only ids below 256 are used, which keeps a published model's size while no other tokenizer exists."`
	RoPETheta     float64 `toml:"rope_theta" range:"1..1e9" doc:"Base of the rotary frequencies. Longer contexts want a larger one: Llama 2 has 10000, Llama 3 has 500000."`
	NormEps       float64 `toml:"norm_eps" range:"(0..0.01]" doc:"Added to the mean square in RMSNorm."`
	InitStd       float64 `toml:"init_std" range:"(0..1]" doc:"Standard deviation of the initial weights."`
	Tied          bool    `toml:"tied" doc:"Whether the output head is the embedding: saves vocab x width parameters."`
	Checkpointing bool    `toml:"checkpointing" id:"-" doc:"Whether a block's activations are computed again in the backward pass instead of kept: about a third more time, a fraction of the memory, the same bits. A worker's own choice."`
}

// Data is the table [data].
type Data struct {
	Source    string  `toml:"source" id:"-" doc:"A folder or a file of text. go: the source of Go's standard library, which every Go installation has. What identifies the run is the data's digest, not this path."`
	Heldout   float64 `toml:"heldout" range:"(0..0.5]" doc:"Share of the files that is kept for evaluation, chosen by a hash of their path."`
	MaxBytes  int64   `toml:"max_bytes" range:"0..1125899906842624" doc:"Bytes of text that are read at most. 0 reads all."`
	Tokenizer string  `toml:"tokenizer" oneof:"=tokenizers" doc:"How text becomes tokens. bytes: a token is a byte."`
}

// Inner is the table [inner].
type Inner struct {
	LR          float64 `toml:"lr" range:"(0..10]" doc:"Peak learning rate of AdamW."`
	MinLRRatio  float64 `toml:"min_lr_ratio" range:"0..1" doc:"What the schedule ends at, as a share of lr. Without effect on schedule = constant."`
	Beta1       float64 `toml:"beta1" range:"0..1)" doc:"Decay of AdamW's first moment."`
	Beta2       float64 `toml:"beta2" range:"0..1)" doc:"Decay of AdamW's second moment."`
	Eps         float64 `toml:"eps" range:"(0..1]" doc:"Added to the root of the second moment."`
	WeightDecay float64 `toml:"weight_decay" range:"0..10" doc:"Decoupled weight decay, as a share of lr and step; norms have none."`
	Clip        float64 `toml:"clip" range:"0..1e6" doc:"Norm that a larger gradient is scaled down to. 0 does not clip."`
	Schedule    string  `toml:"schedule" oneof:"cosine|wsd|linear|constant" doc:"Learning rate after the warmup. wsd: constant, then 1 - sqrt over the last inner.decay steps."`
	Warmup      int     `toml:"warmup" range:"0..1000000000" doc:"Inner steps in which the learning rate rises from 0 to lr. At most the run's steps."`
	Decay       int     `toml:"decay" range:"0..1000000000" doc:"Inner steps of the tail of schedule = wsd; other schedules ignore it."`
	Batch       int     `toml:"batch" range:"1..1048576" doc:"Sequences per worker and inner step."`
	MicroBatch  int     `toml:"micro_batch" id:"-" range:"0..1048576" doc:"Sequences that are in a device's memory at once, a divisor of batch, or of each device's share of it; gradients accumulate. 0 is that share. A worker's own choice; it changes the order of a sum, so the last bits."`
	Device      string  `toml:"device" id:"-" doc:"What a worker computes on: auto, cpu, or cuda:N for GPU number N. auto: a GPU where this binary has CUDA and the machine has one that can train, worker k taking number k modulo their count, else the CPU. loco config show --devices lists them. A worker's own choice."`
	Devices     []int   `toml:"devices" id:"-" doc:"Numbers of the GPUs that one worker trains on together: each holds the whole model and takes an equal share of every batch, and their gradients are summed in every inner step. Empty: one device, as inner.device says, which is auto otherwise. A worker's own choice."`
	Threads     int     `toml:"threads" id:"-" range:"0..1024" doc:"Threads of a worker's CPU kernels. 0 is all cores, or under loco run the worker's share of them. Results do not depend on it."`
	Precision   string  `toml:"precision" id:"-" oneof:"auto|fp32|bf16" doc:"What matrices are multiplied in; parameters, sums and everything else are float32. auto: bf16 where the processor does that faster (AMX, AVX512_BF16), else fp32. A worker's own choice; fp32 gives the same bits on every machine, bf16 only on processors of one kind."`
}

// Sync is the table [sync].
type Sync struct {
	Strategy   string   `toml:"strategy" oneof:"=strategies" doc:"diloco: all average pseudo-gradients after inner_steps steps, then Nesterov (arXiv 2311.08105). noloco: random pairs (arXiv 2506.10911). gasloc: random pairs, accelerated (arXiv 2606.11081). globalm1: all average their weights while they train, and each takes its own Nesterov step (arXiv 2606.22768). ddp: all average gradients at every step. alone: one worker, no exchange."`
	Codec      string   `toml:"codec" oneof:"=codecs" doc:"How pseudo-gradients travel: 4, 2, 1.016 or 0.516 bytes a value. Default int8, ddp and gasloc fp32."`
	StateCodec string   `toml:"state_codec" oneof:"fp32|bf16" doc:"How the weights travel that noloco and globalm1 exchange while they train; the other strategies do not send weights in a round."`
	InnerSteps int      `toml:"inner_steps" range:"1..1000000" doc:"H, inner steps in a round, and a round's width in the schedule of the learning rate. More of them: fewer bytes, and replicas that drift further apart. ddp exchanges at every step and counts rounds all the same. With inner_time it is the most that a worker takes in a round: more than the fastest manages, and little more, because steps that nobody takes are skipped in the schedule too."`
	InnerTime  Duration `toml:"inner_time" range:"0s..168h" doc:"Time of a round's inner steps, for workers of unequal speed: each takes as many steps as fit, to the nearest whole one and at least one, until this long after its last round; then all are ready together, and each weighs what it trained. 0: every worker takes inner_steps. grace_min should be no less than half of the slowest step. Not for ddp, whose round is one step. The same bits cannot come twice, but from workers that took as many steps."`
	strategy.Options
	gossip.Waits
	Quorum      string `toml:"quorum" oneof:"any|majority" doc:"Which workers may go on when the network splits. any: every side, and the side that trained fewer tokens takes over the other's state when they meet again. majority: only more than half of run.workers; others wait. Workers that were started anew count once a round has taken them in, or when all are there. Not for noloco."`
	JoinMoments string `toml:"join_moments" id:"-" oneof:"fresh|fetch" doc:"AdamW's moments of a worker that joins a run under way and has none of its own. fresh: zero, and the rate rises again over join_warmup steps. fetch: those of another worker, which is as many bytes as the state. ddp always fetches them. A worker's own choice."`
	JoinWarmup  int    `toml:"join_warmup" id:"-" range:"0..1000000" doc:"Inner steps in which the learning rate of a worker with fresh moments rises to that of the others. 0: at once. A worker's own choice."`
}

// Mesh is the table [mesh].
type Mesh struct {
	Listen []string `toml:"listen" id:"-" doc:"Multiaddresses to listen on. Port 0 takes a free one. loco run keeps its workers on loopback."`
	Join   []string `toml:"join" id:"-" doc:"Multiaddresses, with /p2p/ID, of members to join the run through. Empty: this worker waits to be joined, or mdns finds the others."`
	MDNS   bool     `toml:"mdns" id:"-" doc:"Whether to look for the run's members on the local network."`
	swim.Config
	DialTimeout Duration `toml:"dial_timeout" id:"-" range:"100ms..10m" doc:"Longest that one attempt to reach a member takes."`
	RedialMax   Duration `toml:"redial_max" id:"-" range:"50ms..1h" doc:"Longest time between two attempts to reach a lost member."`
	JoinTimeout Duration `toml:"join_timeout" id:"-" range:"1s..168h" doc:"Longest that a worker tries to reach the run and to fetch its state, and that others serve one copy of theirs."`
	gossip.Serving
}

// Checkpoint is the table [checkpoint].
type Checkpoint struct {
	Dir       string `toml:"dir" id:"-" doc:"Folder of the checkpoints. Empty: checkpoints/ in the run's folder."`
	Every     int    `toml:"every" id:"-" range:"0..10000000" doc:"Rounds between two checkpoints. 0 writes one at the end or at Ctrl-C only."`
	Keep      int    `toml:"keep" id:"-" range:"1..1000000" doc:"Newest checkpoints that are kept."`
	KeepEvery int    `toml:"keep_every" id:"-" range:"0..10000000" doc:"Checkpoints of rounds that are a multiple of this are kept for ever. 0 keeps none of them."`
	Tmpfs     string `toml:"tmpfs" id:"-" doc:"Folder in memory that a checkpoint is written to first, so that it survives a crash of the process at once; left out when it does not exist or has no room. Empty: none."`
}

// Metrics is the table [metrics].
type Metrics struct {
	Listen string `toml:"listen" id:"-" doc:"host:port of /metrics, /healthz and pprof (loopback only). Port 0 takes a free one. Empty: none."`
}

// DiLoCo is the default of sync.strategy.
const DiLoCo = "diloco"

// Row is the run's strategy. Where its options contradict each other, the error is a
// *strategy.OptionError.
func (c *Config) Row() (strategy.Strategy, error) { return strategy.New(c.Sync.Strategy, c.Outer()) }

// Exchanging says whether the run's workers exchange anything.
func (c *Config) Exchanging() bool {
	row, _ := c.Row() // with options that contradict each other too
	return len(row.Crossings) > 0
}

// EveryStep says whether a round is one step.
func (c *Config) EveryStep() bool {
	row, _ := c.Row()
	return row.EveryStep
}

// Outer are the options of the strategy. θ is no small difference, so only an exact codec lets it cross
// in place of Δ.
func (c *Config) Outer() strategy.Options {
	o := c.Sync.Options
	o.FastOnly = o.Beta == o.Gamma && c.Sync.Codec == "fp32"
	return o
}

// FetchMoments is a value of sync.join_moments.
const FetchMoments = "fetch"

// Quorums, the values of sync.quorum.
const (
	AnySide  = "any"
	Majority = "majority"
)

// SetRounds ends the choice of [Run.Time]: the run has so many rounds.
func (c *Config) SetRounds(rounds int) error {
	c.Run.Rounds, c.Run.Time = rounds, 0
	return c.Validate()
}

// RoundsMost is the most rounds that [Config.Validate] lets the run have.
func (c *Config) RoundsMost() int {
	tokens := float64(c.Run.Workers) * float64(c.Sync.InnerSteps) * float64(c.TokensPerStep())
	return int(min(roundsMax, maxTokens/tokens))
}

// TotalSteps is the run's inner steps per worker, rounds × H, whatever the strategy.
func (c *Config) TotalSteps() uint64 { return uint64(c.Run.Rounds) * uint64(c.Sync.InnerSteps) }

// Exchanges is the run's length in exchanges: its rounds, or for ddp its steps.
func (c *Config) Exchanges() uint64 {
	if c.EveryStep() {
		return c.TotalSteps()
	}
	return uint64(c.Run.Rounds)
}

// TokensPerStep is the tokens one worker trains in one inner step.
func (c *Config) TokensPerStep() uint64 { return uint64(c.Inner.Batch) * uint64(c.Model.Context) }

// TokensPerWorker is the tokens one worker trains in the run.
func (c *Config) TokensPerWorker() uint64 { return c.TotalSteps() * c.TokensPerStep() }

// TotalTokens is the tokens of the whole run. Validate has made sure that it fits.
func (c *Config) TotalTokens() uint64 { return uint64(c.Run.Workers) * c.TokensPerWorker() }

// MicroBatch is the sequences in a device's memory at once: inner.micro_batch, or when
// that is 0 the device's whole share of the batch.
func (c *Config) MicroBatch() int {
	if c.Inner.MicroBatch == 0 {
		return max(1, c.Inner.Batch/max(1, len(c.Inner.Devices)))
	}
	return c.Inner.MicroBatch
}

package config

// Sources that the presets name again and again.
const (
	diloco    = "DiLoCo, arXiv 2311.08105, section 3"
	scaling   = "DiLoCo scaling laws, arXiv 2503.09799"
	noloco    = "NoLoCo, arXiv 2506.10911, section 4"
	nolocoPy  = "NoLoCo's code, gensyn-ai/noloco at a1b4a42"
	open      = "OpenDiLoCo's code, PrimeIntellect-ai/OpenDiloco"
	openPaper = "OpenDiLoCo, arXiv 2407.07852"
	intellect = "INTELLECT-1's report and configuration, arXiv 2412.01152"
	swiglu    = "8/3 x width, up to a multiple of 128: SwiGLU's three matrices in place of the paper's two of 4 x width"
	ours      = "loco's choice"
)

func presets() []preset {
	return []preset{
		{defaultPreset, "three hundred thousand parameters on Go's own source text, two minutes on a laptop", nil},
		home60M(), diloco150M(), noloco125M(), openDiLoCo1B(), intellect1(),
	}
}

// wide are settings that any run over the internet wants instead of tiny's.
func wide(checkpointEvery int) []setting {
	return []setting{
		{"run.report_every", 10, ours},
		{"run.eval_tokens", 1 << 20, ours + ": 0.001 nats of noise"},
		{"data.source", "data", ours + ": a folder named data, to be filled with text or replaced by --set data.source=DIR"},
		{"data.heldout", 0.005, ours},
		{"data.max_bytes", 0, ours + ": all of it"},
		{"sync.deadline", "15m", "about twice the 469 s of INTELLECT-1's median all-reduce around the world"},
		{"sync.grace", "2m", ours},
		{"sync.grace_min", "30s", ours},
		{"mesh.listen", []any{"/ip4/0.0.0.0/tcp/0", "/ip4/0.0.0.0/udp/0/quic-v1"}, ours},
		{"mesh.heartbeat", "15s", ours + ": 160 KB/s for 1000 members"},
		{"mesh.probe_every", "5s", ours + ": 60 bytes a second; an answer may take 2.5 s"},
		{"mesh.suspect_after", "1m", ours + ": four heartbeats"},
		{"mesh.dead_after", "3m", ours + ": simulated with 1000 members, docs/protocol.md"},
		{"mesh.dead_after_refused", "10s", ours + ": a home router restarts its port mapping"},
		{"mesh.forget", "1h", ours},
		{"mesh.dial_timeout", "15s", ours},
		{"mesh.redial_max", "30s", ours},
		{"mesh.join_timeout", "2h", "INTELLECT-1's joiners took 30 to 60 minutes"},
		{"mesh.state_upload", 2500000, ours + ": half of a home line's 40 Mb/s"},
		{"mesh.replay_bytes", 1 << 30, ours + ": of home-60m's rounds of 58 MB eighteen, half an hour or more"},
		{"checkpoint.every", checkpointEvery, ours},
		{"checkpoint.keep", 3, ours},
	}
}

// modelShape lists the keys of [model] with one source for the paper's numbers.
func modelShape(layers, width, heads, kvHeads, context, vocab int, source string) []setting {
	return []setting{
		{"model.layers", layers, source}, {"model.width", width, source},
		{"model.heads", heads, source}, {"model.kv_heads", kvHeads, source},
		{"model.context", context, source}, {"model.vocab", vocab, source},
	}
}

func join(lists ...[]setting) (all []setting) {
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}

func home60M() preset {
	return preset{"home-60m", "DiLoCo's 60M model for four gaming GPUs on home lines", join(
		modelShape(3, 896, 16, 16, 1024, 32000, diloco+", its 60M model"),
		wide(1), []setting{
			{"model.ffn", 2432, swiglu},
			{"run.workers", 4, ours},
			{"run.rounds", 45, scaling + ": 20 tokens a parameter, 58M x 20 = 4 x 64 x 1024 x 4425 steps"},
			{"run.eval_every", 5, ours},
			{"inner.lr", 4e-4, diloco},
			{"inner.schedule", "wsd", ours + ": a run that volunteers may stop or extend wants no fixed end"},
			{"inner.warmup", 450, ours + ": a tenth of the run; the paper's 1000 are for 88000 steps"},
			{"inner.decay", 900, ours + ": a fifth of the run, close to INTELLECT-1's 17 %"},
			{"inner.batch", 64, ours + ": an eighth of DiLoCo's 512, for one GPU"},
			{"inner.micro_batch", 8, ours + ": fits 8 GB"},
			{"sync.inner_steps", 100, "INTELLECT-1"},
			{"sync.outer_lr", 0.6, scaling + ": the best for 4 replicas"},
			{"mesh.mdns", true, ours + ": machines in one home find each other"},
		})}
}

func diloco150M() preset {
	return preset{"diloco-150m", "the DiLoCo paper's 150M model, 8 replicas, H = 500", join(
		modelShape(12, 896, 16, 16, 1024, 32000, diloco+", its 150M model"),
		wide(1), []setting{
			{"model.ffn", 2432, swiglu},
			{"run.workers", 8, diloco + ": k = 8"},
			{"run.rounds", 176, diloco + ": 88000 steps / 500; it starts at step 24000 from pre-training, which it finds worth 0.1 perplexity"},
			{"run.eval_every", 4, ours},
			{"inner.lr", 4e-4, diloco},
			{"inner.min_lr_ratio", 0.05, scaling + ": cosine to 5 %"},
			{"inner.warmup", 1000, diloco},
			{"inner.batch", 512, diloco},
			{"inner.micro_batch", 16, ours},
			{"inner.weight_decay", 0.1, diloco},
			{"inner.clip", 1.0, open},
			{"sync.inner_steps", 500, diloco},
			{"sync.codec", "fp32", diloco + ": outer gradients travel as they are; int8 is a quarter of the bytes"},
			{"sync.outer_lr", 0.7, diloco},
			{"sync.outer_momentum", 0.9, diloco},
		})}
}

func noloco125M() preset {
	return preset{"noloco-125m", "the NoLoCo paper's small model, 8 replicas in random pairs", join(
		modelShape(12, 768, 16, 16, 1024, 128256, noloco+", its small model"),
		wide(5), []setting{
			{"model.ffn", 3072, noloco},
			{"run.workers", 8, nolocoPy + ": 64 sequences on each of 8 make 0.5M tokens"},
			{"run.rounds", 500, noloco + ": 25000 steps / 50"},
			{"run.eval_every", 10, ours},
			{"inner.lr", 6e-4, noloco},
			{"inner.min_lr_ratio", 0.1, noloco},
			{"inner.warmup", 1000, noloco},
			{"inner.beta2", 0.999, nolocoPy + ": PyTorch's default"},
			{"inner.weight_decay", 0.0, nolocoPy},
			{"inner.clip", 1.0, noloco},
			{"inner.batch", 64, nolocoPy},
			{"inner.micro_batch", 8, ours},
			{"sync.strategy", "noloco", noloco},
			{"sync.inner_steps", 50, noloco},
			{"sync.codec", "fp32", "the paper does not compress"},
			{"sync.outer_momentum", 0.5, noloco + ": alpha"},
			{"sync.beta", 0.7, noloco},
			{"sync.gamma", 0.7, nolocoPy + ": the paper does not say; its code has one value for beta and gamma"},
		})}
}

func openDiLoCo1B() preset {
	return preset{"opendiloco-1b", "OpenDiLoCo's 1.1B model on four sites", join(
		modelShape(22, 2048, 32, 4, 1024, 32000, open+", configs/config_1b.json"),
		wide(2), []setting{
			{"model.ffn", 5632, open},
			{"model.tied", false, open},
			{"model.checkpointing", true, ours + ": memory for a micro-batch of 16"},
			{"run.workers", 4, openPaper + ": 4 workers of 8 H100"},
			{"run.rounds", 352, openPaper + ": 44000 steps / 125"},
			{"run.eval_every", 8, ours},
			{"inner.lr", 4e-4, open},
			{"inner.warmup", 1000, open},
			{"inner.batch", 2048, open + ": 2048 a worker, 8192 in the baseline"},
			{"inner.micro_batch", 16, ours},
			{"sync.inner_steps", 125, openPaper + ": within 0.24 perplexity of data-parallel; 500 is worse"},
			{"sync.codec", "bf16", openPaper + " sends fp16, which loses nothing; bf16 is loco's 16-bit codec"},
			{"mesh.state_upload", 50000000, ours + ": 8.8 GB from three sources in a minute"},
			{"mesh.replay_bytes", 1 << 35, ours + ": 15 rounds of 2.2 GB"},
			{"sync.outer_lr", 0.7, open},
			{"sync.outer_momentum", 0.9, open},
		})}
}

func intellect1() preset {
	return preset{"intellect-1", "INTELLECT-1, 10B parameters, 14 nodes around the world", join(
		modelShape(42, 4096, 32, 8, 8192, 128256, intellect),
		wide(1), []setting{
			{"model.ffn", 14336, intellect},
			{"model.rope_theta", 5e5, intellect},
			{"model.tied", false, intellect + ": 10.21B parameters"},
			{"model.checkpointing", true, intellect},
			{"run.workers", 14, intellect + ": 4 to 14 nodes of 8 H100"},
			{"run.rounds", 904, intellect + ": 90400 steps / 100"},
			{"run.eval_every", 10, ours},
			{"inner.lr", 7.5e-5, intellect},
			{"inner.schedule", "wsd", intellect + ": wsd-sqrt"},
			{"inner.min_lr_ratio", 0.0, "prime's code: 1 - sqrt falls to 0"},
			{"inner.warmup", 1000, intellect},
			{"inner.decay", 15700, intellect + ": stable to step 74700 of 90400"},
			{"inner.weight_decay", 0.1, intellect},
			{"inner.beta2", 0.95, intellect},
			{"inner.batch", 128, intellect + ": sequences per node"},
			{"inner.micro_batch", 1, intellect},
			{"sync.inner_steps", 100, intellect},
			{"sync.codec", "int8", intellect},
			{"sync.outer_lr", 0.7, intellect},
			{"sync.outer_momentum", 0.9, intellect},
			{"sync.deadline", "30m", "its all-reduce took up to 1400 s"},
			{"mesh.state_upload", 50000000, ours + ": 82 GB from four sources in seven minutes, a tenth of a node's 4 Gb/s from each"},
			{"mesh.replay_bytes", 1 << 37, ours + ": 13 rounds of 10.4 GB, in nodes with a terabyte of memory"},
		})}
}

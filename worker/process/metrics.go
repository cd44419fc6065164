package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"runtime"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"loco/gossip/exchange"
	"loco/mesh"
	"loco/mesh/p2p"
	"loco/trainer"
	"loco/worker"
)

// meters are the Prometheus metrics of one worker, documented in docs/metrics.md.
type meters struct {
	registry *prometheus.Registry
	labelled prometheus.Registerer

	loss, heldout, lr, gradNorm, deltaNorm         prometheus.Gauge
	tokens                                         prometheus.Counter
	tokensPerSecond, flops, peak, peakShare        prometheus.Gauge
	utilisation, round, step, group, replicaStd    prometheus.Gauge
	innerStep                                      prometheus.Histogram
	phases                                         *prometheus.HistogramVec
	bytes                                          *prometheus.CounterVec
	rounds                                         *prometheus.CounterVec
	retries, rejected, torn, lostSteps, lostTokens prometheus.Counter
	late                                           *prometheus.GaugeVec
	carried                                        prometheus.Gauge
	stateBytes                                     *prometheus.CounterVec
	stateSeconds                                   prometheus.Histogram
	checkpointSeconds                              *prometheus.HistogramVec
	checkpointBytes, checkpointRound               prometheus.Gauge
	checkpointFailures                             prometheus.Counter

	codec, stateCodec        string          // of pseudo-gradients and of weights
	known                    map[string]bool // workers that have a series in late
	flopsPerToken, peakFLOPs float64
	tokensPerStep            uint64
	began                    time.Time
	inner                    float64
}

func newMeters(spec *Spec, worker int, device string, peakFLOPs float64, view func() []mesh.Member) *meters {
	m := &meters{registry: prometheus.NewRegistry(), codec: spec.codec.Name(), stateCodec: spec.stateCodec.Name(),
		flopsPerToken: spec.model.FLOPsPerToken(spec.cfg.Model.Context), peakFLOPs: peakFLOPs, tokensPerStep: spec.cfg.TokensPerStep()}
	labels := prometheus.Labels{"run": spec.cfg.Run.Name, "worker": strconv.Itoa(worker)}
	reg := prometheus.WrapRegistererWith(labels, m.registry)
	m.labelled = reg
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	f := factory{promauto.With(reg)}
	m.loss = f.gauge("loco_train_loss", "Training loss of the last inner step, nats per token.")
	m.heldout = f.gauge("loco_heldout_loss", "Held-out loss of the last evaluation by this worker, nats per token.")
	m.lr = f.gauge("loco_inner_learning_rate", "Inner learning rate of the last step.")
	m.gradNorm = f.gauge("loco_gradient_norm", "Norm of the last gradient, before clipping.")
	m.deltaNorm = f.gauge("loco_pseudo_gradient_norm", "Norm of this worker's last pseudo-gradient.")
	m.tokens = f.counter("loco_tokens_total", "Tokens trained by this worker in this process.")
	m.tokensPerSecond = f.gauge("loco_tokens_per_second", "Tokens per second of the last inner step.")
	m.flops = f.gauge("loco_flops_per_second", "Achieved floating-point operations per second of the last inner step (6 per weight and token, plus attention).")
	m.peak = f.gauge("loco_device_peak_flops_per_second", "Matrix-multiply rate of the device, measured at start.")
	m.peakShare = f.gauge("loco_device_utilisation_ratio", "Achieved operations per second over the device's peak, 0 to 1.")
	m.utilisation = f.gauge("loco_compute_utilisation_ratio", "Share of time spent in inner steps since this process began to train, 0 to 1.")
	m.round = f.gauge("loco_round", "Rounds completed.")
	m.step = f.gauge("loco_step", "Inner steps of the schedule completed.")
	m.group = f.gauge("loco_group_size", "Workers in the last round's mean, this one included.")
	m.replicaStd = f.gauge("loco_replica_std", "Standard deviation of a parameter across replicas, estimated from the last group, where replicas differ by design.")
	m.innerStep = f.histogram("loco_inner_step_seconds", "Time of an inner step.", prometheus.ExponentialBuckets(0.001, 2, 18))
	m.phases = f.histograms("loco_round_phase_seconds", "Time of a round's phases.", prometheus.ExponentialBuckets(0.0005, 2.5, 16), "phase")
	m.bytes = f.counters("loco_exchange_bytes_total", "Bytes of exchanges, by direction, codec and class of peer.", "direction", "codec", "class")
	m.rounds = f.counters("loco_rounds_total", "Rounds by result: averaged, alone or behind.", "result")
	m.retries = f.counter("loco_round_retries_total", "Attempts of a round beyond its first.")
	m.rejected = f.counter("loco_rejected_updates_total", "Updates of other workers that were refused.")
	m.torn = f.counter("loco_torn_exchanges_total", "Pair exchanges that ended in doubt: this worker went on alone, and its partner may have applied the mean.")
	m.lostSteps = f.counter("loco_lost_steps_total", "Inner steps whose work was discarded when the others' state was taken over.")
	m.lostTokens = f.counter("loco_lost_tokens_total", "Tokens trained by this worker and in no mean: too late for their round, or discarded when the others' state was taken over.")
	m.carried = f.gauge("loco_carried_tokens", "Tokens trained by this worker too late for their round and kept for a later one.")
	m.late = f.gauges("loco_late_worker_seconds", "Median lateness of a worker that this worker sees late in most rounds, which is the label late; 0: it mostly does not come before the round is over.", "late")
	m.stateBytes = f.counters("loco_state_transfer_bytes_total", "Bytes of whole-state transfers to or from joiners, by direction.", "direction")
	m.stateSeconds = f.histogram("loco_state_transfer_seconds", "Time to fetch the run's state from another worker.", prometheus.ExponentialBuckets(0.01, 2, 18))
	m.checkpointSeconds = f.histograms("loco_checkpoint_seconds", "Time of a checkpoint's stages.", prometheus.ExponentialBuckets(0.001, 2.5, 16), "stage")
	m.checkpointBytes = f.gauge("loco_checkpoint_bytes", "Size of the last checkpoint.")
	m.checkpointRound = f.gauge("loco_checkpoint_round", "Round of the last complete checkpoint.")
	m.checkpointFailures = f.counter("loco_checkpoint_failures_total", "Checkpoints that could not be written.")
	info := f.gauges("loco_info", "Always 1; what this worker runs.", "strategy", "codec", "device", "go")
	info.WithLabelValues(spec.cfg.Sync.Strategy, spec.cfg.Sync.Codec, device, runtime.Version()).Set(1)
	reg.MustRegister(&peerCollector{view: view, desc: prometheus.NewDesc("loco_peers", "Members of the run as this worker sees them, by state, itself included.", []string{"state"}, nil)})
	m.peak.Set(peakFLOPs)
	for _, result := range []string{"averaged", "alone", "behind"} {
		m.rounds.WithLabelValues(result)
	}
	for _, direction := range []string{"sent", "received"} {
		m.stateBytes.WithLabelValues(direction)
	}
	return m
}

// begin starts the clock of the compute utilisation. Call it before training.
func (m *meters) begin() { m.began = time.Now() }

// observe brings the metrics up to an event of the worker.
func (m *meters) observe(event any) {
	switch e := event.(type) {
	case *trainer.StepEvent:
		m.observeStep(e)
	case *trainer.RoundEvent:
		m.observeRound(e)
	case *trainer.EvalEvent:
		m.heldout.Set(e.HeldoutLoss)
		m.phases.WithLabelValues("eval").Observe(e.Seconds)
	case *trainer.ResyncEvent:
		m.rounds.WithLabelValues("behind").Inc()
		m.lostSteps.Add(float64(e.LostSteps))
		m.lostTokens.Add(float64(e.LostTokens))
		m.carried.Set(float64(e.CarriedTokens))
		m.round.Set(float64(e.Round))
	case *worker.Exchanged:
		m.observeExchange(e)
	case *worker.Fetched:
		if e.Err == nil {
			m.stateSeconds.Observe(e.Seconds)
			m.stateBytes.WithLabelValues("received").Add(float64(e.State.Bytes))
		}
	}
}

func (m *meters) observeExchange(e *worker.Exchanged) {
	codec, out := m.codec, &e.Outcome
	if e.Part == exchange.Slow {
		codec = m.stateCodec
	}
	m.bytes.WithLabelValues("sent", codec, "direct").Add(float64(out.BytesSent))
	m.bytes.WithLabelValues("received", codec, "direct").Add(float64(out.BytesReceived))
	m.rejected.Add(float64(len(out.Rejected)))
	if out.Torn {
		m.torn.Inc()
	}
	if e.Err == nil && !out.Behind && e.Part == exchange.Delta {
		m.observeLate(out.Late)
	}
}

// observeLate keeps one series for each worker that is late.
func (m *meters) observeLate(late []exchange.Late) {
	before := m.known
	m.known = map[string]bool{}
	for _, w := range late {
		label := strconv.Itoa(w.Worker)
		m.known[label] = true
		m.late.WithLabelValues(label).Set(w.By.Seconds())
	}
	for label := range before {
		if !m.known[label] {
			m.late.DeleteLabelValues(label)
		}
	}
}

// stateSent counts bytes of this worker's state that joiners were sent.
func (m *meters) stateSent(bytes int) { m.stateBytes.WithLabelValues("sent").Add(float64(bytes)) }

func (m *meters) observeStep(e *trainer.StepEvent) {
	n := float64(m.tokensPerStep)
	m.loss.Set(e.Loss)
	m.lr.Set(e.LR)
	m.gradNorm.Set(e.GradNorm)
	m.step.Set(float64(e.Step))
	m.innerStep.Observe(e.Seconds)
	m.tokens.Add(n)
	rate := n / max(e.Seconds, 1e-9)
	m.tokensPerSecond.Set(rate)
	m.flops.Set(rate * m.flopsPerToken)
	m.peakShare.Set(rate * m.flopsPerToken / m.peakFLOPs)
}

func (m *meters) observeRound(e *trainer.RoundEvent) {
	result := "averaged"
	if e.Group < 2 {
		result = "alone"
	}
	m.rounds.WithLabelValues(result).Inc()
	m.round.Set(float64(e.Round))
	m.group.Set(float64(e.Group))
	m.deltaNorm.Set(e.DeltaNorm)
	m.lostTokens.Add(float64(e.LostTokens))
	m.carried.Set(float64(e.CarriedTokens))
	m.retries.Add(float64(max(0, e.Attempts-1)))
	for phase, s := range map[string]float64{
		"inner": e.Seconds.Inner, "wait": e.Seconds.Wait, "encode": e.Seconds.Encode,
		"transfer": e.Seconds.Transfer, "decode": e.Seconds.Decode, "outer": e.Seconds.Outer,
	} {
		m.phases.WithLabelValues(phase).Observe(s)
	}
	if e.ReplicaStd != nil {
		m.replicaStd.Set(*e.ReplicaStd)
	}
	m.inner += e.Seconds.Inner
	m.utilisation.Set(m.inner / time.Since(m.began).Seconds())
}

// peerCollector counts members by state at each scrape.
type peerCollector struct {
	view func() []mesh.Member
	desc *prometheus.Desc
}

func (c *peerCollector) Describe(ch chan<- *prometheus.Desc) { ch <- c.desc }

func (c *peerCollector) Collect(ch chan<- prometheus.Metric) {
	count := map[mesh.State]int{}
	for _, m := range c.view() {
		count[m.State]++
	}
	for s := mesh.Joining; s <= mesh.Left; s++ {
		ch <- prometheus.MustNewConstMetric(c.desc, prometheus.GaugeValue, float64(count[s]), s.String())
	}
}

// watchMesh adds what the mesh's detection of failures costs and finds.
func (m *meters) watchMesh(counts func() p2p.LifeCounts) {
	for _, c := range []struct {
		name, help, direction string
		value                 func(p2p.LifeCounts) uint64
	}{
		{"loco_membership_bytes_total", "Bytes of probes and of rumors of life and death, by direction.", "sent", func(c p2p.LifeCounts) uint64 { return c.Sent }},
		{"loco_membership_bytes_total", "Bytes of probes and of rumors of life and death, by direction.", "received", func(c p2p.LifeCounts) uint64 { return c.Received }},
		{"loco_membership_suspicions_total", "Probes that neither the member nor others in its place answered.", "", func(c p2p.LifeCounts) uint64 { return c.Suspicions }},
		{"loco_membership_refutations_total", "Times that this worker was called suspect or dead and refuted it.", "", func(c p2p.LifeCounts) uint64 { return c.Refutations }},
	} {
		o := prometheus.CounterOpts{Name: c.name, Help: c.help}
		if c.direction != "" {
			o.ConstLabels = prometheus.Labels{"direction": c.direction}
		}
		m.labelled.MustRegister(prometheus.NewCounterFunc(o, func() float64 { return float64(c.value(counts())) }))
	}
}

// factory registers metrics as it makes them.
type factory struct{ promauto.Factory }

func (f factory) gauge(name, help string) prometheus.Gauge {
	return f.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
}

func (f factory) gauges(name, help string, labels ...string) *prometheus.GaugeVec {
	return f.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
}

func (f factory) counter(name, help string) prometheus.Counter {
	return f.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
}

func (f factory) counters(name, help string, labels ...string) *prometheus.CounterVec {
	return f.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
}

func (f factory) histogram(name, help string, buckets []float64) prometheus.Histogram {
	return f.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets})
}

func (f factory) histograms(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	return f.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
}

// health is the answer of /healthz.
type health struct {
	Worker int    `json:"worker"`
	State  string `json:"state"` // "joining", "training", "done"
	Round  uint64 `json:"round"`
	Step   uint64 `json:"step"`
	Peers  int    `json:"peers"` // live, itself included
}

// serveMetrics serves /metrics and /healthz on addr, and pprof to loopback clients.
// It returns the address it listens on, "" when addr is empty.
func serveMetrics(addr string, m *meters, healthz func() health) (string, func(), error) {
	if addr == "" {
		return "", func() {}, nil
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return "", nil, fmt.Errorf("metrics.listen = %q: %w; port 0 takes a free one, and an empty value serves none", addr, err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(healthz())
	})
	mux.Handle("/debug/pprof/", loopbackOnly(http.HandlerFunc(pprof.Index)))
	mux.Handle("/debug/pprof/profile", loopbackOnly(http.HandlerFunc(pprof.Profile)))
	mux.Handle("/debug/pprof/trace", loopbackOnly(http.HandlerFunc(pprof.Trace)))
	mux.Handle("/debug/pprof/symbol", loopbackOnly(http.HandlerFunc(pprof.Symbol)))
	s := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, WriteTimeout: 5 * time.Minute}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	return l.Addr().String(), func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); errors.Is(err, context.DeadlineExceeded) {
			s.Close()
		}
		<-done
	}, nil
}

// loopbackOnly refuses clients of other machines: a profile tells more than metrics.
func loopbackOnly(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.RemoteAddr)
		if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
			http.Error(w, "profiles are served to this machine only", http.StatusForbidden)
			return
		}
		h.ServeHTTP(w, r)
	})
}

package process

import (
	"encoding/json"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"loco/gossip/exchange"
	"loco/mesh"
	"loco/mesh/p2p"
	"loco/trainer"
	"loco/worker"
	"loco/worker/config"
)

// metricNames are the metrics that docs/metrics.md documents.
func metricNames(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "## Prometheus")
	names := regexp.MustCompile("`(loco_[a-z_]+)`").FindAllStringSubmatch(table, -1)
	var all []string
	for _, n := range names {
		all = append(all, n[1])
	}
	if len(all) < 20 {
		t.Fatalf("docs/metrics.md documents %d metrics", len(all))
	}
	return all
}

// Every metric that a worker registers is documented, and the dashboard asks for none
// that does not exist.
func TestMetricsDocumentationAndDashboardAgree(t *testing.T) {
	documented := metricNames(t)
	source, err := os.ReadFile("metrics.go")
	if err != nil {
		t.Fatal(err)
	}
	var registered []string
	for _, m := range regexp.MustCompile(`"(loco_[a-z_]+)"`).FindAllStringSubmatch(string(source), -1) {
		registered = append(registered, m[1])
		if !slices.Contains(documented, m[1]) {
			t.Errorf("%s is not in docs/metrics.md", m[1])
		}
	}
	for _, name := range documented {
		if !slices.Contains(registered, name) {
			t.Errorf("docs/metrics.md documents %s, which no worker has", name)
		}
	}
	data, err := os.ReadFile("../../deploy/grafana/dashboards/loco.json")
	if err != nil {
		t.Fatal(err)
	}
	if !json.Valid(data) {
		t.Fatal("the dashboard is not JSON")
	}
	for _, name := range regexp.MustCompile(`loco_[a-z_]+`).FindAllString(string(data), -1) {
		base := name
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			base = strings.TrimSuffix(base, suffix)
		}
		if !slices.Contains(registered, base) {
			t.Errorf("the dashboard asks for %s, which no worker has", name)
		}
	}
}

// A late worker has a series until it is in time again.
func TestLateWorkersHaveASeries(t *testing.T) {
	cfg := config.Default()
	spec, err := NewSpec(&cfg, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	m := newMeters(spec, 0, "cpu", 1, func() []mesh.Member { return nil })
	three := exchange.Late{Worker: 3, By: 2 * time.Second}
	for _, late := range [][]exchange.Late{{three}, {{Worker: 2}, three}, {{Worker: 2}}} {
		m.observe(&worker.Exchanged{Part: exchange.Delta, Outcome: exchange.Outcome{Late: late}})
		families, err := m.registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, f := range families {
			if f.GetName() == "loco_late_worker_seconds" {
				n = len(f.GetMetric())
			}
		}
		if n != len(late) {
			t.Errorf("%d series for %d late workers", n, len(late))
		}
	}
}

func testMeters(t *testing.T) *meters {
	t.Helper()
	s := loadSpec(t, "run.name=a-run", "sync.strategy=noloco", "sync.codec=int8", "sync.state_codec=bf16")
	return newMeters(s, 3, "cuda", 1e12, func() []mesh.Member {
		return []mesh.Member{{State: mesh.Alive}, {State: mesh.Alive}, {State: mesh.Left}}
	})
}

// values are the metrics by name and labels, but for those that every worker has; a histogram's
// are its count and sum.
func values(t *testing.T, m *meters) map[string]float64 {
	t.Helper()
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all, labels := map[string]float64{}, map[string]bool{}
	for _, f := range families {
		for _, series := range f.GetMetric() {
			name := f.GetName()
			for _, l := range series.GetLabel() {
				switch {
				case l.GetName() == "run" || l.GetName() == "worker":
					labels[l.GetName()+" "+l.GetValue()] = true
				default:
					name += " " + l.GetValue()
				}
			}
			switch {
			case series.GetGauge() != nil:
				all[name] = series.GetGauge().GetValue()
			case series.GetCounter() != nil:
				all[name] = series.GetCounter().GetValue()
			case series.GetHistogram() != nil:
				all[name+" count"] = float64(series.GetHistogram().GetSampleCount())
				all[name+" sum"] = series.GetHistogram().GetSampleSum()
			}
		}
	}
	if len(labels) != 2 {
		t.Errorf("labels of the worker: %v", labels)
	}
	return all
}

// Each event moves the metrics that it is for, and no other.
func TestMetricsObserveEvents(t *testing.T) {
	std := 0.125
	seconds := trainer.Seconds{Inner: 1, Wait: 2, Encode: 3, Transfer: 4, Decode: 5, Outer: 6}
	phases := func(more map[string]float64) map[string]float64 {
		for phase, s := range map[string]float64{"inner": 1, "wait": 2, "encode": 3, "transfer": 4, "decode": 5, "outer": 6} {
			more["loco_round_phase_seconds "+phase+" count"], more["loco_round_phase_seconds "+phase+" sum"] = 1, s
		}
		return more
	}
	sent := exchange.Outcome{BytesSent: 7, BytesReceived: 8}
	for name, c := range map[string]struct {
		event any
		want  map[string]float64
	}{
		"step": {&trainer.StepEvent{Loss: 1.5, LR: 0.25, GradNorm: 2.5, Step: 9, Seconds: 2}, map[string]float64{
			"loco_train_loss": 1.5, "loco_inner_learning_rate": 0.25, "loco_gradient_norm": 2.5, "loco_step": 9, "loco_tokens_total": 1024,
			"loco_tokens_per_second": 512, "loco_inner_step_seconds count": 1, "loco_inner_step_seconds sum": 2,
		}},
		"round": {&trainer.RoundEvent{Round: 4, Group: 2, DeltaNorm: 3.5, LostTokens: 5, CarriedTokens: 6, Attempts: 3, Seconds: seconds, ReplicaStd: &std}, phases(map[string]float64{
			"loco_round": 4, "loco_group_size": 2, "loco_pseudo_gradient_norm": 3.5, "loco_lost_tokens_total": 5, "loco_carried_tokens": 6,
			"loco_round_retries_total": 2, "loco_replica_std": 0.125, "loco_rounds_total averaged": 1,
		})},
		"round alone": {&trainer.RoundEvent{Round: 4, Group: 1, Attempts: 1, Seconds: seconds}, phases(map[string]float64{
			"loco_round": 4, "loco_group_size": 1, "loco_rounds_total alone": 1,
		})},
		"eval": {&trainer.EvalEvent{HeldoutLoss: 1.25, Seconds: 2}, map[string]float64{
			"loco_heldout_loss": 1.25, "loco_round_phase_seconds eval count": 1, "loco_round_phase_seconds eval sum": 2,
		}},
		"resync": {&trainer.ResyncEvent{Round: 7, LostSteps: 2, LostTokens: 3, CarriedTokens: 4}, map[string]float64{
			"loco_round": 7, "loco_rounds_total behind": 1, "loco_lost_steps_total": 2, "loco_lost_tokens_total": 3, "loco_carried_tokens": 4,
		}},
		"exchange of a pseudo-gradient": {&worker.Exchanged{Part: exchange.Delta, Outcome: sent}, map[string]float64{
			"loco_exchange_bytes_total direct int8 sent": 7, "loco_exchange_bytes_total direct int8 received": 8,
		}},
		"exchange of weights": {&worker.Exchanged{Part: exchange.Slow, Outcome: sent}, map[string]float64{
			"loco_exchange_bytes_total direct bf16 sent": 7, "loco_exchange_bytes_total direct bf16 received": 8,
		}},
		"refusals": {&worker.Exchanged{Part: exchange.Delta, Outcome: exchange.Outcome{Rejected: []string{"a", "b"}, Torn: true}}, map[string]float64{
			"loco_rejected_updates_total": 2, "loco_torn_exchanges_total": 1,
			"loco_exchange_bytes_total direct int8 sent": 0, "loco_exchange_bytes_total direct int8 received": 0,
		}},
		"late": {&worker.Exchanged{Part: exchange.Delta, Outcome: exchange.Outcome{Late: []exchange.Late{{Worker: 5, By: time.Second}}}}, map[string]float64{
			"loco_late_worker_seconds 5":                 1,
			"loco_exchange_bytes_total direct int8 sent": 0, "loco_exchange_bytes_total direct int8 received": 0,
		}},
		"late, but behind": {&worker.Exchanged{Part: exchange.Delta, Outcome: exchange.Outcome{Behind: true, Late: []exchange.Late{{Worker: 5, By: time.Second}}}}, map[string]float64{
			"loco_exchange_bytes_total direct int8 sent": 0, "loco_exchange_bytes_total direct int8 received": 0,
		}},
		"a state": {&worker.Fetched{State: exchange.Fetched{Bytes: 9}, Seconds: 2}, map[string]float64{
			"loco_state_transfer_seconds count": 1, "loco_state_transfer_seconds sum": 2, "loco_state_transfer_bytes_total received": 9,
		}},
		"no state": {&worker.Fetched{Seconds: 2, Err: exchange.ErrNobody}, nil},
	} {
		m := testMeters(t)
		m.begin()
		before := values(t, m)
		m.observe(c.event)
		after := values(t, m)
		for k, v := range after {
			want, moved := c.want[k]
			switch {
			case strings.HasPrefix(k, "go_") || strings.HasPrefix(k, "process_"):
			case k == "loco_flops_per_second" || k == "loco_device_utilisation_ratio" || k == "loco_compute_utilisation_ratio":
			case moved && v != want:
				t.Errorf("%s: %s is %v, want %v", name, k, v, want)
			case !moved && v != before[k]:
				t.Errorf("%s: moves %s to %v", name, k, v)
			}
		}
		for k := range c.want {
			if _, there := after[k]; !there {
				t.Errorf("%s: there is no %s", name, k)
			}
		}
	}
}

// Rates follow from the tokens of a step, and the utilisation from the time since the begin.
func TestRates(t *testing.T) {
	m := testMeters(t)
	m.stateSent(5)
	m.stateSent(6)
	m.watchMesh(func() p2p.LifeCounts { return p2p.LifeCounts{Sent: 1, Received: 2, Suspicions: 3, Refutations: 4} })
	m.observe(&trainer.StepEvent{Seconds: 2})
	m.began = time.Now().Add(-time.Hour)
	m.observe(&trainer.RoundEvent{Seconds: trainer.Seconds{Inner: 1000}})
	m.observe(&trainer.RoundEvent{Seconds: trainer.Seconds{Inner: 800}})
	v := values(t, m)
	perToken := loadSpec(t).model.FLOPsPerToken(128)
	for k, want := range map[string]float64{
		"loco_flops_per_second": 512 * perToken, "loco_device_utilisation_ratio": 512 * perToken / 1e12, "loco_device_peak_flops_per_second": 1e12,
		"loco_compute_utilisation_ratio": 0.5, "loco_state_transfer_bytes_total sent": 11, "loco_peers alive": 2, "loco_peers left": 1, "loco_peers dead": 0,
		"loco_membership_bytes_total sent": 1, "loco_membership_bytes_total received": 2, "loco_membership_suspicions_total": 3, "loco_membership_refutations_total": 4,
		"loco_info int8 cuda " + runtime.Version() + " noloco": 1,
	} {
		if got, ok := v[k]; !ok || !(math.Abs(got-want) <= 1e-4*want) {
			t.Errorf("%s is %v, want %v", k, got, want)
		}
	}
}

// The server answers with metrics and with where the worker stands, and gives profiles to this
// machine alone.
func TestMetricsAreServed(t *testing.T) {
	addr, stop, err := serveMetrics("127.0.0.1:0", testMeters(t), func() health { return health{Worker: 3, State: "training", Round: 4, Step: 5, Peers: 6} })
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"/metrics":                       `loco_round{run="a-run",worker="3"} 0`,
		"/healthz":                       `{"worker":3,"state":"training","round":4,"step":5,"peers":6}`,
		"/debug/pprof/goroutine?debug=1": "goroutine profile",
		"/debug/pprof/symbol":            "num_symbols",
	} {
		answer, err := http.Get("http://" + addr + path)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if err != nil || answer.StatusCode != http.StatusOK || !strings.Contains(string(text), want) {
			t.Errorf("%s answers %s, %v: no %q in %.300s", path, answer.Status, err, want, text)
		}
	}
	if _, _, err := serveMetrics(addr, testMeters(t), nil); err == nil || !strings.Contains(err.Error(), "metrics.listen") {
		t.Errorf("an address in use is served: %v", err)
	}
	stop()
	if _, err := http.Get("http://" + addr + "/healthz"); err == nil {
		t.Error("the server answers after its end")
	}
	if addr, stop, err := serveMetrics("", nil, nil); addr != "" || err != nil {
		t.Errorf("no address is served at %q, %v", addr, err)
	} else {
		stop()
	}
	for from, want := range map[string]int{"127.0.0.1:1": 200, "[::1]:1": 200, "192.0.2.1:1": 403, "bad": 403, "no.address:1": 403} {
		w := httptest.NewRecorder()
		loopbackOnly(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})).ServeHTTP(w, &http.Request{RemoteAddr: from})
		if w.Code != want {
			t.Errorf("a client at %s gets %d, want %d", from, w.Code, want)
		}
	}
}

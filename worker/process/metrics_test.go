package process

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"loco/gossip/exchange"
	"loco/mesh"
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

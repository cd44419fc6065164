package p2p

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"loco/mesh"
)

// metrics exports what the mesh knows, read when Prometheus asks.
type metrics struct {
	mesh         *Mesh
	peers, bytes *prometheus.Desc
}

func (m *Mesh) startMetrics() error {
	if m.cfg.Registerer == nil {
		return nil
	}
	c := &metrics{
		mesh:  m,
		peers: prometheus.NewDesc("loco_mesh_peers", "Other members of the run as this worker sees them, by state.", []string{"state"}, nil),
		bytes: prometheus.NewDesc("loco_mesh_bytes_total", "Bytes of the run's streams, by direction.", []string{"direction"}, nil),
	}
	if err := m.cfg.Registerer.Register(c); err != nil {
		return fmt.Errorf("p2p: metrics (give each mesh a registry of its own): %w", err)
	}
	m.metrics = c
	return nil
}

func (c *metrics) close() {
	if c != nil {
		c.mesh.cfg.Registerer.Unregister(c)
	}
}

// Describe implements [prometheus.Collector].
func (c *metrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.peers
	ch <- c.bytes
}

// Collect implements [prometheus.Collector].
func (c *metrics) Collect(ch chan<- prometheus.Metric) {
	var count [mesh.Left + 1]int
	members, _ := c.mesh.View()
	for _, member := range members {
		if member.ID != c.mesh.id {
			count[member.State]++
		}
	}
	for state, n := range count {
		ch <- prometheus.MustNewConstMetric(c.peers, prometheus.GaugeValue, float64(n), mesh.State(state).String())
	}
	ch <- prometheus.MustNewConstMetric(c.bytes, prometheus.CounterValue, float64(c.mesh.BytesSent()), "sent")
	ch <- prometheus.MustNewConstMetric(c.bytes, prometheus.CounterValue, float64(c.mesh.BytesReceived()), "received")
}

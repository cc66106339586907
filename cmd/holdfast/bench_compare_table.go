package main

import (
	"fmt"
	"strings"

	"github.com/holdfast/holdfast/internal/bench"
)

func (c *benchCompareCommand) print(env *environment, o *compareOutput) error {
	fmt.Fprintf(env.stdout, "%s. Durable holds a second, medians of %d:\n\n", heading(&o.Machine), c.Rounds)
	if err := c.printEngine(env, o); err != nil {
		return err
	}
	if c.HTTP {
		if err := printPeers(env, o); err != nil {
			return err
		}
	}
	for i, s := range o.Sharing {
		if i == 0 {
			fmt.Fprintf(env.stdout, "\n%d servers on one database, %d clients each, one product, through HTTP:\n",
				len(s.Each), sharingClients)
		}
		fmt.Fprintf(env.stdout,
			"  %.0f together, %.2f of the %.0f that one does alone; the slowest does %.2f of the average\n",
			s.Together(), s.Together()/s.Alone, s.Alone, s.Slowest())
	}
	return c.printLegend(env, o)
}

// printEngine holds the engine against the obvious design, and HTTP against a handler that stores nothing.
func (c *benchCompareCommand) printEngine(env *environment, o *compareOutput) error {
	t := newTable(env.stdout)
	fmt.Fprint(t, "clients\tproducts\tengine\tobvious design\tratio\t")
	if c.HTTP {
		fmt.Fprint(t, "HTTP\tstores nothing\tratio\t")
	}
	fmt.Fprintln(t)
	for _, r := range o.Rows {
		fmt.Fprintf(t, "%d\t%d\t%.0f\t%.0f\t%.1f\t", r.Clients, r.Products, r.Engine, r.Obvious, r.Engine/r.Obvious)
		if c.HTTP {
			fmt.Fprintf(t, "%.0f\t%.0f\t%.2f\t", r.HTTP, r.Nothing, r.HTTP/r.Nothing)
		}
		fmt.Fprintln(t)
	}
	return t.Flush()
}

// printPeers holds Holdfast through HTTP against what people would use instead: letters stand for the long names.
func printPeers(env *environment, o *compareOutput) error {
	fmt.Fprint(env.stdout, "\nThrough HTTP, each from a process of its own, beside what people would use instead:\n\n")
	t := newTable(env.stdout)
	fmt.Fprint(t, "clients\tproducts\tHoldfast\t")
	for i := range o.Rows[0].Peers {
		fmt.Fprintf(t, "%s\tHoldfast / %s\t", letter(i), letter(i))
	}
	fmt.Fprintln(t)
	for _, r := range o.Rows {
		fmt.Fprintf(t, "%d\t%d\t%.0f\t", r.Clients, r.Products, r.HTTP)
		for _, peer := range r.Peers {
			fmt.Fprintf(t, "%.0f\t%.1f\t", peer.PerSecond, r.HTTP/peer.PerSecond)
		}
		fmt.Fprintln(t)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(env.stdout)
	for i, peer := range o.Rows[0].Peers {
		fmt.Fprintf(env.stdout, "  %s  %s\n", letter(i), peer.Name)
	}
	for _, peer := range o.Skipped {
		fmt.Fprintf(env.stdout, "  SKIPPED %s: %s\n", peer.Name, peer.Why)
	}
	return nil
}

func letter(i int) string { return string(rune('A' + i)) }

func (c *benchCompareCommand) printLegend(env *environment, o *compareOutput) error {
	legend := []string{
		"The obvious design is one transaction a request: it takes the unit from the stock row, inserts hold and event, and " +
			"commits.",
	}
	if c.HTTP {
		legend = append(legend, "The handler that stores nothing reads the request and writes an answer of the same size.")
		legend = append(legend, peerLegend(o.Rows[0].Peers)...)
	}
	_, err := fmt.Fprintf(env.stdout, "\n%s\n", strings.Join(legend, "\n"))
	return err
}

func peerLegend(peers []bench.Rate) (legend []string) {
	has := func(kind string) bool {
		for _, peer := range peers {
			if strings.HasPrefix(peer.Name, bench.PeerNames[kind]) {
				return true
			}
		}
		return false
	}
	if has(bench.PostgresGuarded) {
		legend = append(legend, fmt.Sprintf("The peers on PostgreSQL do the same as the obvious design, with a pool of %d connections.",
			bench.PostgresConnections))
	}
	if has(bench.Redis) {
		legend = append(legend, "Redis does less than the others: there is no order, nothing ends a hold at its deadline, "+
			"there are no events,\nand a repeated request holds twice. With appendfsync everysec a crash may lose the last "+
			"second.")
	}
	return legend
}

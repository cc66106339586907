package inventory

import (
	"bufio"
	"crypto/sha256"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "write the outcomes into testdata instead of comparing them")

// TestDecide runs the tables in testdata: a command a line, its outcome behind "=>". To extend one, add a line and run
//
//	go test ./internal/inventory -run TestDecide -rewrite
//
// then read what came out. A blank line ends a batch (names like r1 are known from the next batch on); "at N" sets the
// clock to N seconds; a line with # is a comment.
func TestDecide(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no tables: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := runTable(t, string(data))
			if *rewrite {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			wantLines, gotLines := strings.Split(string(data), "\n"), strings.Split(got, "\n")
			for i := range min(len(wantLines), len(gotLines)) {
				if wantLines[i] != gotLines[i] {
					t.Errorf("%s:%d\n got  %s\n want %s", file, i+1, gotLines[i], wantLines[i])
				}
			}
		})
	}
}

// world is a store in the smallest form: it keeps every row, and every batch sees them all.
type world struct {
	*State
	names map[string]ID // r1, o1 ... in the order of their creation
	ids   map[ID]string
}

func newWorld() *world {
	return &world{State: NewState(0, 0, ""), names: map[string]ID{}, ids: map[ID]string{}}
}

// prepare loads what a store would load beside the rows: the overdue holds.
func (w *world) prepare(requests []*Request) {
	w.Overdue, w.MoreOverdue = map[StockKey][]ID{}, map[StockKey]bool{}
	budget := MaxOverdueLoaded
	for _, d := range KeysOf(requests).Stock {
		stock := w.Stock(d.StockKey)
		if stock == nil || stock.Available >= d.Units {
			continue
		}
		for _, id := range w.dueAt(d.StockKey) {
			if budget == 0 {
				w.MoreOverdue[d.StockKey] = true
				break
			}
			budget--
			w.Overdue[d.StockKey] = append(w.Overdue[d.StockKey], id)
		}
	}
}

func (w *world) dueAt(key StockKey) (list []ID) {
	for id, r := range w.Reservations {
		if !r.Due(w.Now) {
			continue
		}
		for i := range r.Lines {
			if r.Lines[i].Key() == key {
				list = append(list, id)
				break
			}
		}
	}
	sortBy(list, func(a, b ID) bool {
		x, y := w.Reservations[a], w.Reservations[b]
		return x.ExpiresAt < y.ExpiresAt || (x.ExpiresAt == y.ExpiresAt && a.Sequence() < b.Sequence())
	})
	return list
}

func sortBy[T any](list []T, less func(a, b T) bool) {
	for i := 1; i < len(list); i++ {
		for j := i; j > 0 && less(list[j], list[j-1]); j-- {
			list[j], list[j-1] = list[j-1], list[j]
		}
	}
}

func (w *world) decide(t testing.TB, requests ...*Request) ([]Outcome, *Changes) {
	w.prepare(requests)
	outcomes, changes, err := Decide(w.State, requests)
	if err != nil {
		t.Fatalf("Decide: %v", err)
	}
	w.Seq += int64(changes.EventCount)
	for _, o := range slices.Concat(outcomes, ofGroups(outcomes)) {
		switch {
		case o.Created && o.Reservation != nil:
			w.name("r", o.Reservation.ID)
		case o.Created && o.Order != nil:
			w.name("o", o.Order.ID)
		}
	}
	return outcomes, changes
}

// ofGroups are the outcomes of the operations of groups that took effect.
func ofGroups(outcomes []Outcome) (list []Outcome) {
	for i := range outcomes {
		if outcomes[i].Results != nil {
			list = append(list, outcomes[i].Results.Outcomes...)
		}
	}
	return list
}

func (w *world) name(prefix string, id ID) {
	if w.ids[id] != "" {
		return
	}
	n := 1
	for w.names[prefix+strconv.Itoa(n)] != (ID{}) {
		n++
	}
	w.names[prefix+strconv.Itoa(n)], w.ids[id] = id, prefix+strconv.Itoa(n)
}

func runTable(t *testing.T, table string) string {
	w := newWorld()
	var out, batch []string
	flush := func() {
		if len(batch) == 0 {
			return
		}
		requests := make([]*Request, len(batch))
		for i, line := range batch {
			requests[i] = w.parse(t, line)
		}
		outcomes, changes := w.decide(t, requests...)
		for i, line := range batch {
			out = append(out, line+" => "+w.describe(&outcomes[i]))
		}
		for _, line := range w.trace(t, changes) {
			out = append(out, "#   "+line)
		}
		batch = nil
	}
	scanner := bufio.NewScanner(strings.NewReader(table))
	for scanner.Scan() {
		line, _, _ := strings.Cut(scanner.Text(), " => ")
		switch {
		case strings.HasPrefix(line, "#   "): // a trace line, made anew
		case line == "" || strings.HasPrefix(line, "#"):
			flush()
			out = append(out, line)
		case strings.HasPrefix(line, "at "):
			flush()
			seconds, err := strconv.Atoi(line[3:])
			if err != nil {
				t.Fatal(err)
			}
			w.Now = Time(seconds * 1000)
			out = append(out, line)
		default:
			batch = append(batch, line)
		}
	}
	flush()
	return strings.Join(out, "\n") + "\n"
}

// parseGroup reads "group | COMMAND | COMMAND", where id=#N stands for what operation N made.
func (w *world) parseGroup(t *testing.T, line string) *Request {
	first, rest, _ := strings.Cut(line, " | ")
	g := &Group{Atomic: strings.Contains(first, "atomic")}
	for _, part := range strings.Split(rest, " | ") {
		o := Operation{Request: w.parse(t, part)}
		if _, n, named := strings.Cut(part, "id=#"); named {
			at, err := strconv.Atoi(n[:1])
			if err != nil {
				t.Fatal(err)
			}
			o.Names = at + 1
		}
		g.Operations = append(g.Operations, o)
	}
	return &Request{Command: g}
}

// parse reads a command: its name, then name=value for every field, a cart as lines=PRODUCT@LOCATION*QUANTITY@...
func (w *world) parse(t *testing.T, line string) *Request {
	if strings.HasPrefix(line, "group") {
		return w.parseGroup(t, line)
	}
	fields := strings.Fields(line)
	v := map[string]string{}
	for _, f := range fields[1:] {
		name, value, _ := strings.Cut(f, "=")
		v[name] = value
	}
	number := func(name string) int64 {
		if v[name] == "" {
			return 0
		}
		n, err := strconv.ParseInt(v[name], 10, 64)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		return n
	}
	or := func(name, other string) string {
		if s, given := v[name]; given {
			return s
		}
		return other
	}
	request := &Request{}
	if key := v["key"]; key != "" {
		request.Receipt = &ReceiptID{}
		copy(request.Receipt.Key[:], key)
		sum := sha256.Sum256([]byte(strings.Join(fields, " ")))
		copy(request.Receipt.Fingerprint[:], sum[:])
	}
	switch fields[0] {
	case "product":
		request.Command = &CreateProduct{
			ID: v["id"], Name: or("name", v["id"]),
			Price: Money{number("price"), or("currency", "EUR")}, TotalStock: number("stock"), Location: or("at", MainLocation),
		}
	case "patch":
		c := &UpdateProduct{ID: v["id"], Version: number("version")}
		if name, given := v["name"]; given {
			c.Name = &name
		}
		if _, given := v["price"]; given {
			price := number("price")
			c.Amount = &price
		}
		if _, given := v["ifmatch"]; given {
			c.IfMatch = []int64{number("ifmatch")}
		}
		if meta, given := v["meta"]; given {
			c.Metadata = parsePatch(meta)
		}
		request.Command = c
	case "adjust":
		request.Command = &Adjust{
			ProductID: v["id"], Location: or("at", MainLocation),
			Delta: number("delta"), Reason: "test",
		}
	case "reserve":
		request.Command = &Reserve{Lines: parseLines(t, v["lines"]), TTL: number("ttl") * 1000, CustomerID: v["customer"]}
	case "cancel":
		request.Command = &Cancel{ID: w.names[v["id"]], Reason: v["reason"]}
	case "extend":
		request.Command = &Extend{ID: w.names[v["id"]], TTL: number("ttl") * 1000, MaxHold: 3600_000}
	case "confirm":
		request.Command = &Confirm{ReservationID: w.names[v["id"]], Reference: v["ref"]}
	case "fulfill":
		request.Command = &Fulfill{ID: w.names[v["id"]]}
	case "cancelorder":
		request.Command = &CancelOrder{ID: w.names[v["id"]]}
	case "expire":
		c := &Expire{}
		for _, name := range strings.Split(v["ids"], ",") {
			c.IDs = append(c.IDs, w.names[name])
		}
		request.Command = c
	default:
		t.Fatalf("unknown command: %s", line)
	}
	return request
}

func parsePatch(text string) *MetadataPatch {
	p := &MetadataPatch{Set: map[string]*string{}}
	for _, part := range strings.Split(text, ",") {
		name, value, given := strings.Cut(part, ":")
		switch {
		case name == "clear":
			p.Clear = true
		case given:
			p.Set[name] = &value
		default:
			p.Set[name] = nil
		}
	}
	return p
}

func parseLines(t *testing.T, text string) (lines []ReserveLine) {
	for _, part := range strings.Split(text, ",") {
		what, price, priced := strings.Cut(part, "$")
		key, quantity, _ := strings.Cut(what, "*")
		product, location, there := strings.Cut(key, "@")
		if !there {
			location = MainLocation
		}
		n, err := strconv.ParseInt(quantity, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		line := ReserveLine{ProductID: product, Location: location, Quantity: n}
		if priced {
			amount, currency := price[:len(price)-3], price[len(price)-3:]
			m, err := strconv.ParseInt(amount, 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			line.UnitPrice = &Money{m, currency}
		}
		lines = append(lines, line)
	}
	return lines
}

func (w *world) describe(o *Outcome) string {
	var b strings.Builder
	switch r := o.Refusal; {
	case o.Deferred:
		return "deferred"
	case r != nil:
		fmt.Fprintf(&b, "REFUSED %s", r.Code)
		for _, s := range r.Shortages {
			fmt.Fprintf(&b, " short:%s@%s(%d wanted, %d available, %d reserved)", s.ProductID,
				s.Location, s.Requested, s.Available, s.Reserved)
		}
		if r.Lines != nil {
			fmt.Fprintf(&b, " lines:%v", r.Lines)
		}
		if r.Results != nil {
			w.describeResults(&b, r.Results)
		}
		if c := r.Current; c != nil && c.Status != "" {
			fmt.Fprintf(&b, " current:%s", c.Status)
			if c.EndedAt != 0 {
				fmt.Fprintf(&b, " ended:%ds", c.EndedAt/1000)
			}
			if !c.OrderID.IsZero() {
				fmt.Fprintf(&b, " order:%s", w.ids[c.OrderID])
			}
		}
		return b.String()
	case o.Results != nil:
		w.describeResults(&b, o.Results)
		return b.String()
	case o.Adjustment != nil:
		fmt.Fprintf(&b, "adjusted %+d ", o.Adjustment.Delta)
	}
	switch {
	case o.Product != nil:
		fmt.Fprintf(&b, "%s v%d", o.Product.ID, o.Product.Version)
		for i := range o.Product.Stock {
			s := &o.Product.Stock[i]
			fmt.Fprintf(&b, " %s:%d/%d/%d", s.Location, s.Available, s.Reserved, s.Committed)
		}
	case o.Reservation != nil:
		fmt.Fprintf(&b, "%s %v v%d total:%d%s until:%ds", w.ids[o.Reservation.ID], o.Reservation.Status,
			o.Reservation.Version, o.Reservation.Total.Amount, o.Reservation.Total.Currency, o.Reservation.ExpiresAt/1000)
	case o.Order != nil:
		fmt.Fprintf(&b, "%s %v v%d of:%s", w.ids[o.Order.ID], o.Order.Status, o.Order.Version, w.ids[o.Order.ReservationID])
	default:
		fmt.Fprintf(&b, "expired %d", o.Expired)
	}
	if o.Created {
		b.WriteString(" created")
	}
	if o.Replayed {
		b.WriteString(" replayed")
	}
	return b.String()
}

func (w *world) describeResults(b *strings.Builder, results *Results) {
	for i := range results.Outcomes {
		fmt.Fprintf(b, " | %s", w.describe(&results.Outcomes[i]))
	}
}

// trace renders the events of a batch, read back from their stored form.
func (w *world) trace(t *testing.T, c *Changes) (lines []string) {
	events, err := DecodeEvents(w.Seq-int64(c.EventCount)+1, w.Now, c.Events)
	if err != nil {
		t.Fatal(err)
	}
	for i := range events {
		e := &events[i]
		line := fmt.Sprintf("%d %v", e.Seq, e.Type)
		for _, m := range e.Movements {
			line += fmt.Sprintf(" %s@%s(%+d %+d %+d)", m.ProductID, m.Location,
				m.Delta.Available, m.Delta.Reserved, m.Delta.Committed)
		}
		lines = append(lines, line)
	}
	return lines
}

// TestOrderKeepsPrices: an order charges what the shopper was shown, whatever the catalogue says by then.
func TestOrderKeepsPrices(t *testing.T) {
	w := groupWorld(t)
	made, _ := w.decide(t, holdOf(2))
	hold, dearer := made[0].Reservation, int64(5000)
	w.decide(t, &Request{Command: &UpdateProduct{ID: "mug", Amount: &dearer}})
	bought, _ := w.decide(t, &Request{Command: &Confirm{ReservationID: hold.ID}})
	order := bought[0].Order
	if order == nil || !slices.Equal(order.Lines, hold.Lines) || order.Total != hold.Total || order.Total.Amount != 2*1999 {
		t.Errorf("%+v, held as %+v", order, hold)
	}
}

// TestFullMetadata: a patch may fill the metadata up, and no further.
func TestFullMetadata(t *testing.T) {
	w := groupWorld(t)
	patch := func(members int) Outcome {
		set, value := map[string]*string{}, "x"
		for i := range members {
			set[fmt.Sprint("m", i)] = &value
		}
		outcomes, _ := w.decide(t, &Request{Command: &UpdateProduct{ID: "mug", Metadata: &MetadataPatch{Set: set}}})
		return outcomes[0]
	}
	if o := patch(MaxMetadata); o.Product == nil || len(o.Product.Metadata) != MaxMetadata {
		t.Errorf("up to the limit: %+v", o)
	}
	if o := patch(MaxMetadata + 1); o.Refusal == nil || o.Refusal.Code != RefusedMetadataTooLarge {
		t.Errorf("beyond it: %+v", o)
	}
}

// TestOldestLapsesFirst: of several overdue holds the one with the earliest deadline gives its units first, and the
// others keep theirs as long as nobody needs them.
func TestOldestLapsesFirst(t *testing.T) {
	w := groupWorld(t)
	late, early := holdOf(5), holdOf(5)
	early.Command.(*Reserve).TTL = 30_000
	made, _ := w.decide(t, late, early)
	w.Now += 60_000
	w.decide(t, holdOf(5))
	for i, want := range []ReservationStatus{ReservationActive, ReservationExpired} {
		if r := w.Reservations[made[i].Reservation.ID]; r.Status != want {
			t.Errorf("with the deadline %d: %v, want %v", r.ExpiresAt, r.Status, want)
		}
	}
}

// TestDeferredLeavesNoReceipt: a command that is decided in the next batch has no answer yet that could be stored.
func TestDeferredLeavesNoReceipt(t *testing.T) {
	w := groupWorld(t)
	w.decide(t, holdOf(10))
	w.MoreOverdue[StockKey{"mug", MainLocation}] = true
	request := holdOf(1)
	request.Receipt = keyOf("later")
	outcomes, changes, err := Decide(w.State, []*Request{request})
	if err != nil || !outcomes[0].Deferred || len(changes.Receipts) != 0 || len(w.Receipts) != 0 || !changes.Empty() {
		t.Errorf("%+v, %d receipts, %v", outcomes, len(changes.Receipts), err)
	}
}

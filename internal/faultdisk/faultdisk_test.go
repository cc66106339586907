package faultdisk_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/audit"
	"github.com/holdfast/holdfast/internal/engine"
	"github.com/holdfast/holdfast/internal/faultdisk"
	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
	"github.com/holdfast/holdfast/internal/store/sqlite"
)

var (
	images   = flag.Int("images", 1000, "how many images of power losses to open")
	failures = flag.Int("failures", 25, "how many operations fail with each fault, one a run; 0: all")
	seed     = flag.Uint64("seed", 1, "of the first workload and of what its power losses leave")
	sessions = flag.Int("sessions", 3, "how often the workload opens the store")
)

const fileName = "holdfast.db"

// workload opens a store several times and uses it, for as long as that goes well. The disk is told of everything that
// was acknowledged. Nothing may be acknowledged any more once the store is broken.
//
// It returns how long the log of the disk was whenever a batch was said to have had no effect.
func workload(t *testing.T, d *faultdisk.Disk, folder string, seed uint64) (refusals []int) {
	t.Helper()
	random := rand.New(rand.NewPCG(seed, 0))
	for session := range *sessions {
		s, err := sqlite.Open(filepath.Join(folder, fileName), sqlite.Options{})
		if err != nil {
			if !d.Met() {
				t.Fatal(err)
			}
			return refusals
		}
		e := engine.Open(s, engine.Options{})
		refusals = append(refusals, use(t, d, s, e, session, random)...)
		_ = e.Close(context.Background()) // which fails where the disk does
	}
	return refusals
}

func use(t *testing.T, d *faultdisk.Disk, s store.Store, e *engine.Engine, session int, random *rand.Rand) (
	refusals []int,
) {
	t.Helper()
	product := fmt.Sprint("mug", session)
	hold, broken, metBefore := inventory.ID{}, false, d.Met()
	for i := range 24 {
		flushFailed := d.Met() && !metBefore && d.Fault() == faultdisk.FlushError
		outcome, err := e.Do(t.Context(), request(product, hold, i, random))
		switch {
		case err == nil && (broken || flushFailed):
			t.Fatal("something was acknowledged after the store broke")
		case err == nil && outcome.Refusal == nil:
			d.Note(head(t, s))
		case err != nil && !d.Met():
			t.Fatal(err)
		}
		broken = broken || errors.Is(err, engine.ErrBroken)
		if broken && d.Fault() != faultdisk.FlushError {
			t.Fatalf("only a failed flush may break a store: %v", err)
		}
		if err != nil && !broken {
			refusals = append(refusals, len(d.Log()))
		}
		if outcome.Reservation != nil {
			hold = outcome.Reservation.ID
		}
	}
	return refusals
}

// request is the command of a step, drawn at random once there is a product and a hold. Metadata makes some batches
// longer than a page.
func request(product string, hold inventory.ID, step int, random *rand.Rand) *inventory.Request {
	r := &inventory.Request{Salt: uint32(step), Receipt: &inventory.ReceiptID{Key: [16]byte{byte(step)}}}
	copy(r.Receipt.Key[1:], product)
	kind := random.IntN(5)
	if hold == (inventory.ID{}) {
		kind = min(kind, 2)
	}
	switch {
	case step == 0:
		r.Command = &inventory.CreateProduct{
			ID: product, Name: product, Price: inventory.Money{Amount: 100, Currency: "EUR"}, TotalStock: 1000,
			Location: inventory.MainLocation,
		}
	case kind == 0:
		r.Command = &inventory.Adjust{ProductID: product, Location: inventory.MainLocation, Delta: 1, Reason: "count"}
	case kind <= 2:
		r.Command = &inventory.Reserve{
			Lines:    []inventory.ReserveLine{{ProductID: product, Location: inventory.MainLocation, Quantity: 1}},
			TTL:      600_000,
			Metadata: inventory.NewMetadata(map[string]string{"note": fmt.Sprintf("%0*d", random.IntN(2800), step)}),
		}
	case kind == 3:
		r.Command = &inventory.Confirm{ReservationID: hold}
	default:
		r.Command = &inventory.Cancel{ID: hold}
	}
	return r
}

// head is that of the store, whose checksum covers all that was acknowledged.
func head(t *testing.T, s store.Store) (h store.Head) {
	t.Helper()
	read := func(v store.View) (err error) {
		h, err = v.Head(t.Context())
		return err
	}
	err := s.View(t.Context(), read)
	if errors.Is(err, store.ErrUnavailable) { // the fault was a read of this one
		err = s.View(t.Context(), read)
	}
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// check opens the image of a power loss, and requires that it is clean and has everything that was acknowledged. It
// returns the head of the image and the last note.
func check(t *testing.T, log []faultdisk.Operation, seed uint64, what string) (found store.Head, note any) {
	t.Helper()
	image, note := faultdisk.Draw(log, rand.New(rand.NewPCG(seed, uint64(len(log)))))
	folder := t.TempDir()
	for name, content := range image {
		if err := os.WriteFile(filepath.Join(folder, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	faultdisk.New(folder, 0, faultdisk.None) // spares the real disk the flushes
	s, err := sqlite.Open(filepath.Join(folder, fileName), sqlite.Options{})
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	defer s.Close()
	report, err := audit.Run(t.Context(), s, audit.Options{})
	if err != nil || !report.Clean() {
		t.Fatalf("%s: the audit says %+v, %v", what, report, err)
	}
	if acknowledged, any := note.(store.Head); any {
		requireBatch(t, s, &acknowledged, what)
	}
	found = head(t, s)
	if err := s.Close(); err != nil { // before its files go: a store whose files are gone leaves them open
		t.Fatalf("%s: closing: %v", what, err)
	}
	if err := os.RemoveAll(folder); err != nil {
		t.Fatal(err)
	}
	return found, note
}

// requireNothing opens images of power losses at the moment when a batch was refused. Nothing may be there beyond what
// was acknowledged.
func requireNothing(t *testing.T, log []faultdisk.Operation, what string) {
	t.Helper()
	for n := range uint64(3) {
		head, note := check(t, log, *seed+n, what+", when it was refused")
		acknowledged, any := note.(store.Head)
		if any && head != acknowledged || !any && head.BatchNo != 0 {
			t.Fatalf("%s: batch %d is there, and %d was the last that was acknowledged", what, head.BatchNo,
				acknowledged.BatchNo)
		}
	}
}

func requireBatch(t *testing.T, s store.Store, h *store.Head, what string) {
	t.Helper()
	err := s.View(t.Context(), func(v store.View) error {
		page, err := v.Journal(t.Context(), store.JournalPosition{BatchNo: h.BatchNo}, 1, 1)
		if err == nil && (len(page) == 0 || page[0].Checksum != h.Chain) {
			err = errors.New("it is not there")
		}
		return err
	})
	if err != nil {
		t.Fatalf("%s: batch %d was acknowledged: %v", what, h.BatchNo, err)
	}
}

// TestPowerLoss opens images of power losses, one after each operation of a workload, then of the workload of the next
// seed.
func TestPowerLoss(t *testing.T) {
	if testing.Short() {
		*images = 100
	}
	start := time.Now()
	operations := 0
	for n, left := *seed, *images; left > 0; n++ {
		folder := t.TempDir()
		d := faultdisk.New(folder, 0, faultdisk.None)
		workload(t, d, folder, n)
		log := d.Log()
		operations += len(log)
		for end := 1; end <= len(log) && left > 0; end++ {
			check(t, log[:end], n, fmt.Sprintf("power loss after operation %d of %d, seed %d", end, len(log), n))
			left--
		}
	}
	t.Logf("%d operations in %v", operations, time.Since(start))
	t.Logf("counted %d images", *images)
}

// TestSeeds: another seed is another workload, and leaves other images of the same one.
func TestSeeds(t *testing.T) {
	logs := make([][]faultdisk.Operation, 2)
	for i := range logs {
		folder := t.TempDir()
		d := faultdisk.New(folder, 0, faultdisk.None)
		workload(t, d, folder, *seed+uint64(i))
		logs[i] = d.Log()
	}
	if len(logs[0]) == len(logs[1]) {
		t.Errorf("two workloads of %d operations", len(logs[0]))
	}
	differ, moments := 0, 0
	for end := 1; end < len(logs[0]); end += 17 {
		moments++
		first, _ := faultdisk.Draw(logs[0][:end], rand.New(rand.NewPCG(1, 0)))
		second, _ := faultdisk.Draw(logs[0][:end], rand.New(rand.NewPCG(2, 0)))
		if !reflect.DeepEqual(first, second) {
			differ++
		}
	}
	t.Logf("at %d of %d moments, two seeds leave two images", differ, moments)
	if differ < moments/2 {
		t.Error("that is less than half")
	}
}

// TestFailures makes the operations of a workload fail, one at a time, and then cuts the power.
func TestFailures(t *testing.T) {
	folder := t.TempDir()
	whole := faultdisk.New(folder, 0, faultdisk.None)
	workload(t, whole, folder, *seed)
	for fault := faultdisk.IOError; fault <= faultdisk.FlushError; fault++ {
		t.Run(fault.String(), func(t *testing.T) { fail(t, fault, whole.Operations(fault)) })
	}
}

func fail(t *testing.T, fault faultdisk.Fault, operations int) {
	t.Helper()
	step := 1
	if *failures > 0 {
		step = max(1, operations / *failures)
	}
	met, refused := 0, 0
	for n := 1 + int(*seed)%step; n <= operations; n += step {
		folder := t.TempDir()
		d := faultdisk.New(folder, n, fault)
		refusals := workload(t, d, folder, *seed)
		if d.Met() {
			met++
		}
		what := fmt.Sprintf("%v at operation %d, seed %d", fault, n, *seed)
		check(t, d.Log(), *seed, what)
		for _, end := range refusals {
			refused++
			requireNothing(t, d.Log()[:end], what)
		}
	}
	t.Logf("of %d operations", operations)
	t.Logf("counted %d failing operations", met)
	t.Logf("%d batches were refused", refused)
	if met == 0 {
		t.Error("no operation failed")
	}
}

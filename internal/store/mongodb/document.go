package mongodb

import (
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
)

// The documents. Their fields have the names of the API, so that people can read their data.

type moneyDocument struct {
	Amount   int64  `bson:"amount"`
	Currency string `bson:"currency"`
}

// memberDocument is one member of metadata. Its name can be any text, which a field name of MongoDB cannot.
type memberDocument struct {
	Name  string `bson:"name"`
	Value string `bson:"value"`
}

type headDocument struct {
	Store         string        `bson:"store"`
	Format        int           `bson:"format"`
	Layout        int           `bson:"layout"`
	BatchNo       int64         `bson:"batchNo"` // its entry in the journal has the rest of the state
	BatchID       []byte        `bson:"batchId"`
	Epochs        []byte        `bson:"epochs,omitempty"`
	Receipts      []string      `bson:"receipts"` // their collections, newest first
	ReceiptsSince bson.DateTime `bson:"receiptsSince"`
	Fence         int64         `bson:"fence"`
	LockedAt      bson.DateTime `bson:"lockedAt,omitempty"` // the server's clock
}

type productDocument struct {
	ID        string           `bson:"_id"`
	Name      string           `bson:"name"`
	Price     moneyDocument    `bson:"price"`
	Metadata  []memberDocument `bson:"metadata,omitempty"`
	Version   int64            `bson:"version"`
	CreatedAt bson.DateTime    `bson:"createdAt"`
	UpdatedAt bson.DateTime    `bson:"updatedAt"`
	Sequence  int64            `bson:"sequence"`
}

type stockDocument struct {
	ID             string `bson:"_id"` // see stockID
	ProductID      string `bson:"productId"`
	Location       string `bson:"location"`
	TotalStock     int64  `bson:"totalStock"`
	AvailableStock int64  `bson:"availableStock"`
	ReservedStock  int64  `bson:"reservedStock"`
	CommittedStock int64  `bson:"committedStock"`
	Sequence       int64  `bson:"sequence"`
}

type lineDocument struct {
	Line            int            `bson:"line"`
	ProductID       string         `bson:"productId"`
	Location        string         `bson:"location"`
	Quantity        int64          `bson:"quantity"`
	UnitPrice       *moneyDocument `bson:"unitPrice,omitempty"`       // of a reservation
	PriceAtPurchase *moneyDocument `bson:"priceAtPurchase,omitempty"` // of an order
}

type reservationDocument struct {
	ID           string           `bson:"_id"`
	Status       string           `bson:"status"`
	Lines        []lineDocument   `bson:"lines"`
	Total        moneyDocument    `bson:"total"`
	CustomerID   string           `bson:"customerId,omitempty"`
	Metadata     []memberDocument `bson:"metadata,omitempty"`
	CreatedAt    bson.DateTime    `bson:"createdAt"`
	UpdatedAt    bson.DateTime    `bson:"updatedAt"`
	ExpiresAt    bson.DateTime    `bson:"expiresAt"`
	EndedAt      bson.DateTime    `bson:"endedAt,omitempty"`
	CancelReason string           `bson:"cancelReason,omitempty"`
	OrderID      string           `bson:"orderId,omitempty"`
	Version      int64            `bson:"version"`
	Sequence     int64            `bson:"sequence"`
}

type orderDocument struct {
	ID            string           `bson:"_id"`
	ReservationID string           `bson:"reservationId"`
	Reference     string           `bson:"reference,omitempty"`
	Status        string           `bson:"status"`
	Lines         []lineDocument   `bson:"lines"`
	Total         moneyDocument    `bson:"total"`
	CustomerID    string           `bson:"customerId,omitempty"`
	Metadata      []memberDocument `bson:"metadata,omitempty"`
	CreatedAt     bson.DateTime    `bson:"createdAt"`
	UpdatedAt     bson.DateTime    `bson:"updatedAt"`
	FulfilledAt   bson.DateTime    `bson:"fulfilledAt,omitempty"`
	CancelledAt   bson.DateTime    `bson:"cancelledAt,omitempty"`
	CancelReason  string           `bson:"cancelReason,omitempty"`
	Version       int64            `bson:"version"`
	Sequence      int64            `bson:"sequence"`
}

type journalDocument struct {
	BatchNo      int64         `bson:"_id"`
	BatchID      []byte        `bson:"batchId"`
	LastSequence int64         `bson:"lastSequence"`
	Count        int           `bson:"count"`
	At           bson.DateTime `bson:"at"`
	Events       []byte        `bson:"events"`
	Checksum     []byte        `bson:"checksum"`
}

type receiptDocument struct {
	Key         []byte `bson:"_id"`
	Fingerprint []byte `bson:"fingerprint"`
	Answer      []byte `bson:"answer"`
}

type recordDocument struct {
	ID      string `bson:"_id"` // see recordID
	Kind    string `bson:"kind"`
	Key     string `bson:"key"`
	Version int64  `bson:"version"`
	Data    []byte `bson:"data"`
}

// stockID is the id of a stock row. Product ids and locations have no slash.
func stockID(key inventory.StockKey) string { return key.ProductID + "/" + key.Location }

func dateOf(t inventory.Time) bson.DateTime { return bson.DateTime(t) }
func timeOf(d bson.DateTime) inventory.Time { return inventory.Time(d) }

func moneyOf(m inventory.Money) moneyDocument   { return moneyDocument(m) }
func (d *moneyDocument) money() inventory.Money { return inventory.Money(*d) }
func membersOf(m inventory.Metadata) (list []memberDocument) {
	for _, member := range m {
		list = append(list, memberDocument(member))
	}
	return list
}

func metadata(list []memberDocument) (m inventory.Metadata) {
	for _, d := range list {
		m = append(m, inventory.Member(d))
	}
	return m
}

// head is the head with its newest entry of the journal, or nil where there is none.
func (d *headDocument) head(last *journalDocument) store.Head {
	h := store.Head{Store: d.Store, Format: d.Format, BatchNo: d.BatchNo, Epochs: inventory.Epochs(d.Epochs)}
	copy(h.BatchID[:], d.BatchID)
	if last != nil {
		h.Seq, h.At = last.LastSequence, timeOf(last.At)
		copy(h.Chain[:], last.Checksum)
	}
	return h
}

func productOf(p *inventory.Product) productDocument {
	return productDocument{
		ID: p.ID, Name: p.Name, Price: moneyOf(p.Price), Metadata: membersOf(p.Metadata), Version: p.Version,
		CreatedAt: dateOf(p.CreatedAt), UpdatedAt: dateOf(p.UpdatedAt), Sequence: p.Seq,
	}
}

func (d *productDocument) product() *inventory.Product {
	return &inventory.Product{
		ID: d.ID, Name: d.Name, Price: d.Price.money(), Metadata: metadata(d.Metadata), Version: d.Version,
		CreatedAt: timeOf(d.CreatedAt), UpdatedAt: timeOf(d.UpdatedAt), Seq: d.Sequence,
	}
}

func stockOf(key inventory.StockKey, s *inventory.Stock) stockDocument {
	return stockDocument{
		ID: stockID(key), ProductID: key.ProductID, Location: key.Location, TotalStock: s.Total(),
		AvailableStock: s.Available, ReservedStock: s.Reserved, CommittedStock: s.Committed, Sequence: s.Seq,
	}
}

func (d *stockDocument) stock() inventory.Stock {
	return inventory.Stock{
		Location: d.Location, Seq: d.Sequence,
		Buckets: inventory.Buckets{Available: d.AvailableStock, Reserved: d.ReservedStock, Committed: d.CommittedStock},
	}
}

func linesOf(lines []inventory.Line, price func(*lineDocument, *moneyDocument)) []lineDocument {
	list := make([]lineDocument, len(lines))
	for i := range lines {
		l := &lines[i]
		list[i] = lineDocument{Line: i + 1, ProductID: l.ProductID, Location: l.Location, Quantity: l.Quantity}
		money := moneyOf(l.UnitPrice)
		price(&list[i], &money)
	}
	return list
}

func asUnitPrice(d *lineDocument, m *moneyDocument)       { d.UnitPrice = m }
func asPriceAtPurchase(d *lineDocument, m *moneyDocument) { d.PriceAtPurchase = m }

func linesFrom(list []lineDocument, price func(*lineDocument) *moneyDocument) ([]inventory.Line, error) {
	lines := make([]inventory.Line, len(list))
	for i := range list {
		d := &list[i]
		money := price(d)
		if d.Line != i+1 || money == nil {
			return nil, fmt.Errorf("its line %d has another number or no price", i+1)
		}
		lines[i] = inventory.Line{
			ProductID: d.ProductID, Location: d.Location, Quantity: d.Quantity,
			UnitPrice: money.money(),
		}
	}
	return lines, nil
}

func unitPrice(d *lineDocument) *moneyDocument       { return d.UnitPrice }
func priceAtPurchase(d *lineDocument) *moneyDocument { return d.PriceAtPurchase }

func optionalID(id inventory.ID, prefix string) string {
	if id.IsZero() {
		return ""
	}
	return id.Text(prefix)
}

func reservationOf(r *inventory.Reservation) reservationDocument {
	return reservationDocument{
		ID: r.ID.Text(inventory.ReservationPrefix), Status: r.Status.String(),
		Lines: linesOf(r.Lines, asUnitPrice), Total: moneyOf(r.Total),
		CustomerID: r.CustomerID, Metadata: membersOf(r.Metadata),
		CreatedAt: dateOf(r.CreatedAt), UpdatedAt: dateOf(r.UpdatedAt),
		ExpiresAt: dateOf(r.ExpiresAt), EndedAt: dateOf(r.EndedAt), CancelReason: r.CancelReason,
		OrderID: optionalID(r.OrderID, inventory.OrderPrefix), Version: r.Version, Sequence: r.Seq,
	}
}

// reservation decodes a document. The error is a [store.CorruptRow].
func (d *reservationDocument) reservation() (*inventory.Reservation, error) {
	id, idOK := inventory.ParseID(inventory.ReservationPrefix, d.ID)
	status, statusOK := inventory.ParseReservationStatus(d.Status)
	orderID, orderOK := parseOptional(inventory.OrderPrefix, d.OrderID)
	lines, err := linesFrom(d.Lines, unitPrice)
	switch {
	case !idOK:
		return nil, d.corrupt("its id cannot be read")
	case !statusOK:
		return nil, d.corrupt("its status is " + d.Status)
	case !orderOK:
		return nil, d.corrupt("its orderId is " + d.OrderID)
	case err != nil:
		return nil, d.corrupt(err.Error())
	}
	return &inventory.Reservation{
		ID: id, Status: status, Lines: lines, Total: d.Total.money(),
		CustomerID: d.CustomerID, Metadata: metadata(d.Metadata),
		CreatedAt: timeOf(d.CreatedAt), UpdatedAt: timeOf(d.UpdatedAt),
		ExpiresAt: timeOf(d.ExpiresAt), EndedAt: timeOf(d.EndedAt), CancelReason: d.CancelReason,
		OrderID: orderID, Version: d.Version, Seq: d.Sequence,
	}, nil
}

func (d *reservationDocument) corrupt(detail string) error {
	return corrupt("reservation", inventory.ReservationPrefix, d.ID, detail)
}

func corrupt(kind, prefix, key, detail string) error {
	id, _ := inventory.ParseID(prefix, key)
	return &store.CorruptRow{Row: kind + " document " + key, ID: id, Key: key, Detail: detail}
}

func parseOptional(prefix, text string) (inventory.ID, bool) {
	if text == "" {
		return inventory.ID{}, true
	}
	return inventory.ParseID(prefix, text)
}

func orderOf(o *inventory.Order) orderDocument {
	return orderDocument{
		ID: o.ID.Text(inventory.OrderPrefix), ReservationID: o.ReservationID.Text(inventory.ReservationPrefix),
		Reference: o.Reference, Status: o.Status.String(),
		Lines: linesOf(o.Lines, asPriceAtPurchase), Total: moneyOf(o.Total),
		CustomerID: o.CustomerID, Metadata: membersOf(o.Metadata),
		CreatedAt: dateOf(o.CreatedAt), UpdatedAt: dateOf(o.UpdatedAt),
		FulfilledAt: dateOf(o.FulfilledAt), CancelledAt: dateOf(o.CancelledAt), CancelReason: o.CancelReason,
		Version: o.Version, Sequence: o.Seq,
	}
}

// order decodes a document. The error is a [store.CorruptRow].
func (d *orderDocument) order() (*inventory.Order, error) {
	id, idOK := inventory.ParseID(inventory.OrderPrefix, d.ID)
	reservationID, reservationOK := inventory.ParseID(inventory.ReservationPrefix, d.ReservationID)
	status, statusOK := inventory.ParseOrderStatus(d.Status)
	lines, err := linesFrom(d.Lines, priceAtPurchase)
	detail := ""
	switch {
	case !idOK:
		detail = "its id cannot be read"
	case !reservationOK:
		detail = "its reservationId is " + d.ReservationID
	case !statusOK:
		detail = "its status is " + d.Status
	case err != nil:
		detail = err.Error()
	default:
		return &inventory.Order{
			ID: id, ReservationID: reservationID, Reference: d.Reference, Status: status,
			Lines: lines, Total: d.Total.money(), CustomerID: d.CustomerID, Metadata: metadata(d.Metadata),
			CreatedAt: timeOf(d.CreatedAt), UpdatedAt: timeOf(d.UpdatedAt),
			FulfilledAt: timeOf(d.FulfilledAt), CancelledAt: timeOf(d.CancelledAt), CancelReason: d.CancelReason,
			Version: d.Version, Seq: d.Sequence,
		}, nil
	}
	return nil, corrupt("order", inventory.OrderPrefix, d.ID, detail)
}

func journalOf(e *store.Entry, lastSequence int64) journalDocument {
	return journalDocument{
		BatchNo: e.BatchNo, BatchID: e.BatchID[:], LastSequence: lastSequence, Count: e.Count, At: dateOf(e.At),
		Events: e.Events, Checksum: e.Checksum[:],
	}
}

func (d *journalDocument) entry() store.Entry {
	e := store.Entry{
		BatchNo: d.BatchNo, First: d.LastSequence - int64(d.Count) + 1, Count: d.Count, At: timeOf(d.At),
		Events: d.Events,
	}
	copy(e.BatchID[:], d.BatchID)
	copy(e.Checksum[:], d.Checksum)
	return e
}

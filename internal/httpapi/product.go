package httpapi

import (
	"net/http"

	"github.com/holdfast/holdfast/internal/engine"
	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/wire"
)

var productMutations = []mutation{
	{
		operation: "createProduct", method: http.MethodPost, path: "/v1/products",
		decode: wire.CreateProduct, result: resultProduct,
	},
	{
		operation: "updateProduct", method: http.MethodPatch, path: "/v1/products/{id}",
		mediaTypes: []string{"application/merge-patch+json"},
		decode:     wire.UpdateProduct, result: resultProduct,
	},
}

func (s *Server) routeProducts() {
	s.handle("GET /v1/products", "listProducts", s.listProducts)
	s.handle("GET /v1/products/{id}", "getProduct", s.getProduct)
}

// product is a product as an answer. Its version is that of everything it shows, its stock included.
type product struct{ *inventory.Product }

func resultProduct(o *inventory.Outcome) resource { return product{o.Product} }

func (p product) version() int64         { return p.LastSeq() }
func (p product) path() string           { return "/v1/products/" + p.ID }
func (p product) append(b []byte) []byte { return wire.AppendProduct(b, p.Product) }

// rendered is a product whose JSON is there already.
type rendered struct{ *engine.Product }

func (p rendered) version() int64         { return p.LastSeq() }
func (p rendered) path() string           { return "/v1/products/" + p.ID }
func (p rendered) append(b []byte) []byte { return append(b, p.Rendered...) }

func appendRendered(b []byte, p *engine.Product) []byte { return append(b, p.Rendered...) }

func (s *Server) getProduct(c *call) error {
	if err := c.noQuery(); err != nil {
		return err
	}
	found, err := s.o.Engine.Product(c.Context(), c.pathProduct())
	switch {
	case err != nil:
		return err
	case found == nil:
		return fail(CodeProductNotFound)
	}
	return c.one(rendered{found})
}

// pathProduct is the product's id in the path. Text that cannot be one becomes empty, which names nothing: some
// databases would not even take it as text.
func (c *call) pathProduct() string {
	if id := c.PathValue("id"); wire.IsKey(id) {
		return id
	}
	return ""
}

func (s *Server) listProducts(c *call) error {
	q, err := c.query("id", "limit", "cursor")
	if err != nil {
		return err
	}
	ids, limit, after := q.ids("id", maxIDs), q.limit(), q.productCursor()
	if q.has("id") && (q.has("limit") || q.has("cursor")) {
		q.add("id", "cannot stand beside limit or cursor")
	}
	if err := q.err(); err != nil {
		return err
	}
	if ids != nil {
		return s.productsByID(c, ids)
	}
	if err := c.claimPage(pageBytes); err != nil {
		return err
	}
	page, next, err := s.o.Engine.Products(c.Context(), after, limit)
	if err != nil {
		return err
	}
	c.send(http.StatusOK, func(b []byte) []byte {
		return wire.AppendPage(b, page, productCursor(next), wire.AppendProduct)
	})
	return nil
}

func (s *Server) productsByID(c *call, ids []string) error {
	page, err := s.o.Engine.ProductsByID(c.Context(), ids)
	if err != nil {
		return err
	}
	bytes := 0
	for _, p := range page {
		bytes += len(p.Rendered)
	}
	if err := c.claim(int64(bytes) - freeBytes); err != nil {
		return err
	}
	c.send(http.StatusOK, func(b []byte) []byte { return wire.AppendPage(b, page, "", appendRendered) })
	return nil
}

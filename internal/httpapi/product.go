package httpapi

import (
	"net/http"

	"github.com/holdfast/holdfast/internal/inventory"
	"github.com/holdfast/holdfast/internal/store"
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

func (s *Server) getProduct(c *call) error {
	if err := c.noQuery(); err != nil {
		return err
	}
	var found []*inventory.Product
	err := c.view(func(v store.View) (err error) {
		found, _, err = v.Products(c.Context(), store.ProductQuery{IDs: []string{c.pathProduct()}})
		return err
	})
	switch {
	case err != nil:
		return err
	case len(found) == 0:
		return fail(CodeProductNotFound)
	}
	return c.one(product{found[0]})
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
	query := store.ProductQuery{IDs: q.ids("id", maxIDs), Limit: q.limit(), After: q.productCursor()}
	if q.has("id") && (q.has("limit") || q.has("cursor")) {
		q.add("id", "cannot stand beside limit or cursor")
	}
	if err := q.err(); err != nil {
		return err
	}
	var page []*inventory.Product
	var next string
	err = c.view(func(v store.View) (err error) {
		page, next, err = v.Products(c.Context(), query)
		return err
	})
	if err != nil {
		return err
	}
	c.send(http.StatusOK, func(b []byte) []byte {
		return wire.AppendPage(b, page, productCursor(next), wire.AppendProduct)
	})
	return nil
}

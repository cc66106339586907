# One static binary. Build: docker build -t holdfast .
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -o /holdfast ./cmd/holdfast && mkdir /data

FROM scratch
COPY --from=build /holdfast /holdfast
COPY --from=build --chown=65532:65532 /data /data
USER 65532:65532
VOLUME /data
EXPOSE 8420
ENTRYPOINT ["/holdfast"]
CMD ["serve", "--listen", "0.0.0.0:8420", "--store", "sqlite:/data/holdfast.db"]

# The image: one static binary, the authorities of the web, and the licence texts of what is
# linked into the binary (/licenses). It has no shell, and no user but a number. Build it with
# either of
#
#     docker build --build-arg VERSION="$(git describe --tags --always)" -t tallygate .
#     buildah build --build-arg VERSION="$(git describe --tags --always)" -t tallygate .
#
# and run it with a folder that holds tallygate.yaml and what it names:
#
#     docker run --read-only -p 8443:8443 -v "$PWD/gate:/etc/tallygate:ro" tallygate
#
# What is in the folder must be readable by uid 65532, and an issuer's state needs a
# volume that this user may write to.

FROM golang:1.26.10 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=unknown
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X github.com/tallygate/tallygate/internal/buildinfo.Version=${VERSION}" -o /out/tallygate ./cmd/tallygate
# The texts that the licences of the dependencies ask for where a binary is distributed.
RUN CGO_ENABLED=0 go run ./internal/licenses -o /out/licenses ./cmd/tallygate

FROM scratch
ARG VERSION=unknown
LABEL org.opencontainers.image.title="tallygate" \
      org.opencontainers.image.description="A gate in front of partner APIs that binds access tokens to client certificates (RFC 8705)" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
# For authorization servers whose certificates come from them; connection.trust needs none.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/licenses /licenses
COPY --from=build /out/tallygate /tallygate
# A number, for Kubernetes' runAsNonRoot to see that it is not root's.
USER 65532:65532
EXPOSE 8443 9090
ENTRYPOINT ["/tallygate"]
CMD ["serve", "--config", "/etc/tallygate/tallygate.yaml"]

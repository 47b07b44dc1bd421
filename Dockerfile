# The image: one static binary, the authorities of the web, the licence texts of what is linked
# into the binary (/licenses), and its SBOM (/sbom). It has no shell, and no user but a
# number. Build it for one platform, or for several, with
#
#     docker build --build-arg VERSION="$(git describe --tags --always)" -t tallygate .
#     docker buildx build --platform linux/amd64,linux/arm64 --build-arg VERSION="$(git describe --tags --always)" -t REGISTRY/tallygate --push .
#     buildah build --format docker --build-arg VERSION="$(git describe --tags --always)" -t tallygate .
#
# (the format of OCI has no HEALTHCHECK, and Kubernetes needs none), and run it with a folder that
# holds tallygate.yaml and what it names:
#
#     docker run --read-only -p 8443:8443 -v "$PWD/gate:/etc/tallygate:ro" tallygate
#
# What is in the folder must be readable by uid 65532, and an issuer's state needs a
# volume that this user may write to. deploy/compose has an example.
#
# The build runs on the platform of the builder, whatever the platform of the image: Go compiles
# for every platform, and nothing runs in emulation. Equal sources and an equal VERSION give an
# equal binary and SBOM. "make pin-images" writes the digest of the image in FROM. The compiler is the
# toolchain that go.mod names: the go command fetches it and checks it against the checksum database.

FROM --platform=$BUILDPLATFORM golang:1.26.9@sha256:f1f0bcc2c524a3ced375fcb4d1ecb7aa371aa7070e112599aaca45cc02d0101b AS build
ENV GOTOOLCHAIN=auto
WORKDIR /src
RUN GOBIN=/out/tools go install github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN go build -o /out/tools/licenses ./internal/licenses
ARG TARGETOS
ARG TARGETARCH
ARG VERSION=unknown
RUN CGO_ENABLED=0 GOOS=${TARGETOS} GOARCH=${TARGETARCH} go build -buildvcs=false -trimpath -ldflags "-s -w -X github.com/tallygate/tallygate/internal/buildinfo.Version=${VERSION}" -o /out/tallygate ./cmd/tallygate
# The texts that the licences of the dependencies ask for where a binary is distributed.
RUN CGO_ENABLED=0 GOOS=${TARGETOS} GOARCH=${TARGETARCH} /out/tools/licenses -o /out/licenses ./cmd/tallygate
RUN /out/tools/cyclonedx-gomod bin -json -noserial -notimestamp -std -version "${VERSION}" -output /out/tallygate.cdx.json /out/tallygate

FROM scratch
ARG VERSION=unknown
LABEL org.opencontainers.image.title="tallygate" \
      org.opencontainers.image.description="A gate in front of partner APIs that binds access tokens to client certificates (RFC 8705)" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
# For authorization servers whose certificates come from them; connection.trust needs none.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/licenses /licenses
COPY --from=build /out/tallygate.cdx.json /sbom/tallygate.cdx.json
COPY --from=build /out/tallygate /tallygate
# A number, for Kubernetes' runAsNonRoot to see that it is not root's.
USER 65532:65532
EXPOSE 8443 9090
# For Docker and its like: Kubernetes has probes of its own. It fails while the gate drains.
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s CMD ["/tallygate", "healthcheck", "--config", "/etc/tallygate/tallygate.yaml"]
ENTRYPOINT ["/tallygate"]
CMD ["serve", "--config", "/etc/tallygate/tallygate.yaml"]

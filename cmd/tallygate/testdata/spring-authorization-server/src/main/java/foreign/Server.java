package foreign;

import java.util.List;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Profile;
import org.springframework.security.oauth2.core.AuthorizationGrantType;
import org.springframework.security.oauth2.core.ClientAuthenticationMethod;
import org.springframework.security.oauth2.server.authorization.client.InMemoryRegisteredClientRepository;
import org.springframework.security.oauth2.server.authorization.client.RegisteredClient;
import org.springframework.security.oauth2.server.authorization.client.RegisteredClientRepository;
import org.springframework.security.oauth2.server.authorization.settings.ClientSettings;
import org.springframework.security.oauth2.server.authorization.settings.TokenSettings;
import org.springframework.security.oauth2.server.authorization.token.JwtEncodingContext;
import org.springframework.security.oauth2.server.authorization.token.OAuth2TokenCustomizer;

/** A foreign authorization server: Spring Authorization Server over mutual TLS. */
@SpringBootApplication
public class Server {

    public static void main(String[] args) {
        SpringApplication.run(Server.class, args);
    }

    @Bean
    RegisteredClientRepository clients() {
        return new InMemoryRegisteredClientRepository(application("northwind-ledger", true), application("northwind-reports", false));
    }

    private static RegisteredClient application(String clientId, boolean bound) {
        return RegisteredClient.withId(clientId)
            .clientId(clientId)
            .clientAuthenticationMethod(ClientAuthenticationMethod.TLS_CLIENT_AUTH)
            .clientSettings(ClientSettings.builder()
                .x509CertificateSubjectDN("CN=ledger,OU=Back Office,O=Northwind,C=DE")
                .build())
            .tokenSettings(TokenSettings.builder()
                .x509CertificateBoundAccessTokens(bound)
                .build())
            .authorizationGrantType(AuthorizationGrantType.CLIENT_CREDENTIALS)
            .scope("accounts:read")
            .build();
    }

    @Bean
    @Profile("rfc9068")
    OAuth2TokenCustomizer<JwtEncodingContext> accessTokens() {
        return context -> {
            if (context.getTokenType().getValue().equals("access_token")) {
                context.getJwsHeader().type("at+jwt");
                context.getClaims()
                    .claim("client_id", context.getRegisteredClient().getClientId())
                    .audience(List.of("https://api.example.com"));
            }
        };
    }
}

package org.genrecall.opensearch.generation;

import io.grpc.ChannelCredentials;
import io.grpc.TlsServerCredentials;

import com.carrotsearch.randomizedtesting.annotations.ThreadLeakFilters;

import org.genrecall.opensearch.GenrecallSettings;
import org.genrecall.opensearch.GrpcThreads;
import org.genrecall.opensearch.TestInferenceServer;
import org.genrecall.opensearch.generation.GenerationException.Kind;
import org.genrecall.opensearch.stats.GenerationStats;
import org.opensearch.common.settings.ClusterSettings;
import org.opensearch.common.settings.Settings;
import org.opensearch.common.settings.SettingsException;
import org.opensearch.common.unit.TimeValue;
import org.opensearch.test.OpenSearchTestCase;
import org.junit.AfterClass;
import org.junit.BeforeClass;

import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.util.ArrayList;
import java.util.Base64;
import java.util.HashSet;
import java.util.List;
import java.util.concurrent.ExecutionException;

import javax.net.ssl.KeyManagerFactory;

import static org.hamcrest.Matchers.containsString;

/** Calls over TLS to a server whose certificate the JDK's keytool makes for the run. */
@ThreadLeakFilters(filters = GrpcThreads.class)
public class InferenceCredentialsTests extends OpenSearchTestCase {

    private static final char[] PASSWORD = "changeit".toCharArray();

    private static Path config;
    private static TestInferenceServer server;

    @BeforeClass
    public static void startServer() throws Exception {
        config = createTempDir();
        Path store = config.resolve("server.p12");
        keytool("-genkeypair", "-alias", "server", "-keyalg", "EC", "-dname", "CN=test", "-ext", "SAN=ip:127.0.0.1", "-keystore", store);
        KeyStore keys = KeyStore.getInstance("PKCS12");
        try (InputStream in = Files.newInputStream(store)) {
            keys.load(in, PASSWORD);
        }
        String pem = Base64.getMimeEncoder().encodeToString(keys.getCertificate("server").getEncoded());
        Files.writeString(config.resolve("ca.pem"), "-----BEGIN CERTIFICATE-----\n" + pem + "\n-----END CERTIFICATE-----\n");
        KeyManagerFactory factory = KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
        factory.init(keys, PASSWORD);
        server = new TestInferenceServer(0, TlsServerCredentials.newBuilder().keyManager(factory.getKeyManagers()).build(), "v7");
    }

    @AfterClass
    public static void stopServer() {
        server.close();
    }

    /** In this JVM, as the test framework forbids new processes; pom.xml opens the package. */
    private static void keytool(Object... options) throws Exception {
        List<String> arguments = new ArrayList<>();
        for (Object option : options) {
            arguments.add(option.toString());
        }
        arguments.addAll(List.of("-storetype", "PKCS12", "-storepass", new String(PASSWORD)));
        Class.forName("sun.security.tools.keytool.Main")
            .getMethod("main", String[].class)
            .invoke(null, (Object) arguments.toArray(new String[0]));
    }

    public void testGenerate_whenServersCertificateIsTrusted_thenAnswers() throws Exception {
        assertEquals(3, generate(tls("ca.pem")).size());
    }

    public void testGenerate_whenServersCertificateIsUnknown_thenUnavailable() {
        ExecutionException e = expectThrows(ExecutionException.class, () -> generate(tls("")));
        assertEquals(Kind.UNAVAILABLE, ((GenerationException) e.getCause()).kind());
    }

    public void testOf_whenFileIsMissing_thenMessageNamesSettingAndPath() {
        SettingsException e = expectThrows(SettingsException.class, () -> InferenceCredentials.of(tls("missing.pem"), config));
        assertThat(e.getMessage(), containsString("[genrecall.tls.trusted_certificates] [" + config.resolve("missing.pem") + "]"));
    }

    public void testOf_whenCertificatesWithoutTls_thenRefused() {
        Settings settings = Settings.builder().put("genrecall.tls.trusted_certificates", "ca.pem").build();
        SettingsException e = expectThrows(SettingsException.class, () -> InferenceCredentials.of(settings, config));
        assertThat(e.getMessage(), containsString("[genrecall.tls.enabled]"));
    }

    private static Settings tls(String trusted) {
        return Settings.builder()
            .put("genrecall.endpoint", server.endpoint())
            .put("genrecall.tls.enabled", true)
            .put("genrecall.tls.trusted_certificates", trusted)
            .build();
    }

    private static Generation generate(Settings settings) throws Exception {
        ChannelCredentials credentials = InferenceCredentials.of(settings, config);
        GenrecallSettings values = new GenrecallSettings(settings, new ClusterSettings(settings, new HashSet<>(GenrecallSettings.all())));
        try (InferenceServer inference = new InferenceServer(values, credentials, Runnable::run)) {
            GenerationClient client = new GenerationClient(inference, values, new GenerationStats());
            return client.generate("v7", new Prompt("shoes", 3, 0, UserContext.ANONYMOUS), TimeValue.timeValueSeconds(20)).get();
        }
    }
}

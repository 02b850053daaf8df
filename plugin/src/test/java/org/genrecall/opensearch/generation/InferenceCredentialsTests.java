package org.genrecall.opensearch.generation;

import io.grpc.ChannelCredentials;
import io.grpc.InsecureChannelCredentials;
import io.grpc.TlsServerCredentials;

import com.carrotsearch.randomizedtesting.annotations.ThreadLeakFilters;

import org.genrecall.opensearch.GenrecallSettings;
import org.genrecall.opensearch.GrpcThreads;
import org.genrecall.opensearch.TestInferenceServer;
import org.genrecall.opensearch.generation.GenerationException.Kind;
import org.genrecall.opensearch.stats.GenerationStats;
import org.genrecall.v1.GenerateRequest;
import org.genrecall.v1.GenerateResponse;
import org.genrecall.v1.GenerativeRecallGrpc;
import org.genrecall.v1.Query;
import org.opensearch.common.settings.ClusterSettings;
import org.opensearch.common.settings.MockSecureSettings;
import org.opensearch.common.settings.Settings;
import org.opensearch.common.settings.SettingsException;
import org.opensearch.common.unit.TimeValue;
import org.opensearch.test.OpenSearchTestCase;
import org.opensearch.threadpool.TestThreadPool;
import org.opensearch.threadpool.ThreadPool;
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
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;

import javax.net.ssl.KeyManagerFactory;

import static org.hamcrest.Matchers.containsString;

/** Calls over TLS to a server whose certificate the JDK's keytool makes for the run. */
@ThreadLeakFilters(filters = GrpcThreads.class)
public class InferenceCredentialsTests extends OpenSearchTestCase {

    private static final char[] PASSWORD = "changeit".toCharArray();

    private static Path config;
    private static TestInferenceServer server;
    /** Asks its clients for a certificate. */
    private static TestInferenceServer strict;
    private static byte[] clientKey;

    @BeforeClass
    public static void startServer() throws Exception {
        config = createTempDir();
        Path store = config.resolve("server.p12");
        keytool("-genkeypair", "-alias", "server", "-keyalg", "EC", "-dname", "CN=test", "-ext", "SAN=ip:127.0.0.1", "-keystore", store);
        KeyStore keys = KeyStore.getInstance("PKCS12");
        try (InputStream in = Files.newInputStream(store)) {
            keys.load(in, PASSWORD);
        }
        pem("CERTIFICATE", keys.getCertificate("server").getEncoded(), "ca.pem");
        KeyManagerFactory factory = KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
        factory.init(keys, PASSWORD);
        server = new TestInferenceServer(0, TlsServerCredentials.newBuilder().keyManager(factory.getKeyManagers()).build(), "v7");
        store = config.resolve("client.p12");
        keytool("-genkeypair", "-alias", "client", "-keyalg", "EC", "-dname", "CN=node", "-keystore", store);
        try (InputStream in = Files.newInputStream(store)) {
            keys.load(in, PASSWORD);
        }
        pem("CERTIFICATE", keys.getCertificate("client").getEncoded(), "client.pem");
        clientKey = Files.readAllBytes(pem("PRIVATE KEY", keys.getKey("client", PASSWORD).getEncoded(), "client.key"));
        try (InputStream clients = Files.newInputStream(config.resolve("client.pem"))) {
            strict = new TestInferenceServer(
                0,
                TlsServerCredentials.newBuilder()
                    .keyManager(factory.getKeyManagers())
                    .trustManager(clients)
                    .clientAuth(TlsServerCredentials.ClientAuth.REQUIRE)
                    .build(),
                "v7"
            );
        }
    }

    private static Path pem(String kind, byte[] content, String name) throws Exception {
        String lines = Base64.getMimeEncoder().encodeToString(content);
        return Files.writeString(config.resolve(name), "-----BEGIN " + kind + "-----\n" + lines + "\n-----END " + kind + "-----\n");
    }

    @AfterClass
    public static void stopServers() {
        server.close();
        strict.close();
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

    public void testGenerate_whenTheServerAsksForACertificate_thenThatOfTheNodeIsShown() throws Exception {
        ExecutionException e = expectThrows(ExecutionException.class, () -> generate(at(strict, tls("ca.pem"), null)));
        assertEquals(Kind.UNAVAILABLE, ((GenerationException) e.getCause()).kind());
        assertEquals(3, generate(at(strict, tls("ca.pem"), clientKey)).size());
    }

    private static Settings at(TestInferenceServer other, Settings settings, byte[] key) {
        Settings.Builder builder = Settings.builder().put(settings).put("genrecall.endpoint", other.endpoint());
        if (key != null) {
            MockSecureSettings secure = new MockSecureSettings();
            secure.setFile("genrecall.tls.key", key);
            builder.setSecureSettings(secure).put("genrecall.tls.certificate", "client.pem");
        }
        return builder.build();
    }

    public void testOf_whenCertificateOrKeyIsMissing_thenMessageNamesBoth() {
        MockSecureSettings secure = new MockSecureSettings();
        secure.setFile("genrecall.tls.key", clientKey);
        for (Settings half : List.of(
            Settings.builder().put(tls("ca.pem")).put("genrecall.tls.certificate", "client.pem").build(),
            Settings.builder().put(tls("ca.pem")).setSecureSettings(secure).build()
        )) {
            SettingsException e = expectThrows(SettingsException.class, () -> InferenceCredentials.of(half, config));
            assertThat(e.getMessage(), containsString("needs both [genrecall.tls.certificate]"));
            assertThat(e.getMessage(), containsString("[genrecall.tls.key] in the keystore"));
        }
    }

    public void testUse_whenCertificatesAreReloaded_thenTheNextCallsUseThem() throws Exception {
        Settings settings = at(strict, tls("ca.pem"), null);
        GenrecallSettings values = new GenrecallSettings(settings, new ClusterSettings(settings, new HashSet<>(GenrecallSettings.all())));
        try (InferenceServer inference = new InferenceServer(values, InferenceCredentials.of(settings, config), Runnable::run)) {
            assertTrue(describe(inference).handle((reply, failure) -> failure != null).get());
            inference.use(InferenceCredentials.of(at(strict, tls("ca.pem"), clientKey), config));
            assertEquals(1, describe(inference).get().intValue());
        }
    }

    private static CompletableFuture<Integer> describe(InferenceServer inference) {
        Ask ask = new Ask(Caller.CLAUSE, "v7", TimeValue.timeValueSeconds(20), Origin.UNKNOWN);
        GenerateRequest request = GenerateRequest.newBuilder().setCodebook("v7").setK(1).addQueries(Query.newBuilder().setText("a")).build();
        return inference.call(GenerativeRecallGrpc.getGenerateMethod(), request, ask, GenerateResponse::getResultsCount, nanos -> {});
    }

    public void testInPlaintext_whenBeyondLoopback_thenThose() {
        List<String> endpoints = List.of("127.0.0.1:50051", "10.0.0.1:50051", "localhost:1", "[::1]:50051", "[2001:db8::1]:1", "127.0.0.evil:1");
        assertEquals(
            List.of("10.0.0.1:50051", "[2001:db8::1]:1", "127.0.0.evil:1"),
            InferenceCredentials.inPlaintext(InsecureChannelCredentials.create(), endpoints)
        );
        assertEquals(List.of(), InferenceCredentials.inPlaintext(InferenceCredentials.of(tls("ca.pem"), config), endpoints));
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
        ThreadPool threads = new TestThreadPool("credentials");
        try (InferenceServer inference = new InferenceServer(values, credentials, Runnable::run)) {
            GenerationStats stats = new GenerationStats(inference::endpoints);
            GenerationClient client = new GenerationClient(inference, values, stats, new PluginPool(threads));
            Prompt prompt = new Prompt("shoes", 3, 0, UserContext.ANONYMOUS);
            return client.generate("v7", prompt, TimeValue.timeValueSeconds(20), new RequestRoom()).get().generation();
        } finally {
            ThreadPool.terminate(threads, 10, TimeUnit.SECONDS);
        }
    }
}
